"""What a model's checkpoint would hold, from its config alone: plans are checked without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RefusedInput
from ..parents.headers import Checkpoint, TensorHeader, read_config

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

# torch's names of types, as safetensors headers write them.
_STORED = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16", "int64": "I64"}


def recorded_checkpoint(config_file: Path) -> Checkpoint:
    """The names, shapes and types of the tensors that transformers saves for a config; there is no file.

    Built on torch's meta device, where a model of any size takes no memory. Raises RefusedInput for a config
    that cannot be read, asks for remote code, or is no causal LM.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from ..merging.layered import typed_config

    raw = read_config(config_file)
    config = typed_config(raw, str(config_file))
    _require_causal(config_file, raw, config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype or torch.float32)
    headers = {name: _header(config_file, tensor) for name, tensor in _saved(model).items()}
    return Checkpoint(config_file.parent, raw, headers)


def _require_causal(config_file: Path, raw: Mapping[str, Any], config: PretrainedConfig) -> None:
    """The class that a config names, if it does, must be the causal LM of its model type."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if model_class is None or raw.get("architectures", [model_class.__name__]) != [model_class.__name__]:
        raise RefusedInput(f"{config_file}: not a causal LM; only one-stack decoder models can be merged")


def _saved(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """What ``save_pretrained`` writes: of tied tensors the first only, in the names of published files."""
    from transformers.core_model_loading import revert_weight_conversion

    named = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in named.items():
        first.setdefault(id(tensor), name)
    written = {name: named[name].detach() for name in first.values()}
    return dict(revert_weight_conversion(model, written))


def _header(config_file: Path, tensor: torch.Tensor) -> TensorHeader:
    name = str(tensor.dtype).removeprefix("torch.")
    return TensorHeader(
        config_file,
        _STORED.get(name, name.upper()),
        tuple(tensor.shape),
        0,
        tensor.numel() * tensor.element_size(),
    )

"""What a model's checkpoint would hold, from its config alone: plans are checked without its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RefusedInput
from .headers import Checkpoint, TensorHeader

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

    raw = _read(config_file)
    config = _causal_config(config_file, raw)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype or torch.float32)
    headers = {name: _header(config_file, tensor) for name, tensor in _saved(model).items()}
    return Checkpoint(config_file.parent, raw, headers)


def _read(config_file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(config_file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RefusedInput(f"{config_file}: cannot be read as JSON ({error}); record it again") from error
    if not isinstance(raw, dict):
        raise RefusedInput(f"{config_file}: expected a JSON object")
    if not isinstance(raw.get("num_hidden_layers"), int):
        raise RefusedInput(
            f"{config_file}: no num_hidden_layers; only one-stack decoder models can be merged"
        )
    if "auto_map" in raw:
        raise RefusedInput(f"{config_file}: it asks for remote code (auto_map), which is never run")
    return raw


def _causal_config(config_file: Path, raw: dict[str, Any]) -> PretrainedConfig:
    """Transformers' own reading of it. The class that it names must be the causal LM of its model type."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    kind = raw.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise RefusedInput(f"{config_file}: transformers knows no model type {kind!r}")
    try:
        config = CONFIG_MAPPING[kind].from_dict(raw)
    except Exception as error:  # each config checks its own values, and raises whatever it raises
        raise RefusedInput(f"{config_file}: not a config of type '{kind}' ({error})") from error
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if model_class is None or raw.get("architectures", [model_class.__name__]) != [model_class.__name__]:
        raise RefusedInput(f"{config_file}: not a causal LM; only one-stack decoder models can be merged")
    return config


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

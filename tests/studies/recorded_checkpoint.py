"""The checkpoint that a model's config describes: a study file is checked without its parents' weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.core_model_loading import revert_weight_conversion

from recipesearch.errors import RefusedInput
from recipesearch.merging.layered import typed_config
from recipesearch.parents.headers import Checkpoint, TensorHeader, read_config

# The safetensors names of torch's types.
_STORED = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16", "int64": "I64"}


def recorded_checkpoint(config_file: Path) -> Checkpoint:
    """The names, shapes and types of the tensors that transformers saves for a config; there is no file.

    The model is built on torch's meta device, where models of any size take no memory. Raises RefusedInput
    for a config that cannot be read, asks for remote code, or is not a causal LM's.
    """
    raw = read_config(config_file)
    config = typed_config(raw, str(config_file))
    _require_causal(config_file, raw, config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype or torch.float32)
    headers = {name: _header(config_file, tensor) for name, tensor in _saved(model).items()}
    return Checkpoint(config_file.parent, raw, headers)


def _require_causal(config_file: Path, raw: Mapping[str, Any], config: PretrainedConfig) -> None:
    """Refuses a config that names another class than the causal LM of its model type."""
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if model_class is None or raw.get("architectures", [model_class.__name__]) != [model_class.__name__]:
        raise RefusedInput(f"{config_file}: not a causal LM; only one-stack decoder models can be merged")


def _saved(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The tensors that ``save_pretrained`` writes, by published names; of tied tensors only the first."""
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

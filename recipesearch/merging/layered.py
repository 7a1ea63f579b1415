"""The config of a merged model: the donor's config with its per-layer lists rewritten.

Stock mergekit sets the number of layers but leaves such lists at their old length, and the model does not
load (transformers: "num_hidden_layers must be equal to the number of layer types").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from ..errors import RefusedInput
from ..parents.headers import PER_LAYER
from ..parents.identify import model_directory
from ..recipe import Parent, Recipe, Slice

# The config keys that affect a layer, besides sizes, which show in the tensors' shapes.
_READ_BY_LAYERS = ("hidden_act", "layer_norm_eps", "rms_norm_eps", "rope_parameters", "sliding_window")

ConfigOf = Callable[[Parent], PretrainedConfig]
Shape = tuple[object, ...]


def configs(folders: Mapping[Parent, Path]) -> ConfigOf:
    """A function that gives a parent's config and reads each config once."""
    known: dict[Parent, PretrainedConfig] = {}

    def config_of(parent: Parent) -> PretrainedConfig:
        if parent not in known:
            known[parent] = AutoConfig.from_pretrained(folders[parent])
        return known[parent]

    return config_of


def expected_config(parent: Parent) -> PretrainedConfig:
    """A parent's config. A recipe has the config of its built model, except for the vocabulary's size."""
    if isinstance(parent.source, Recipe):
        return output_config(parent.source, expected_config)
    return AutoConfig.from_pretrained(model_directory(parent))


def output_config(recipe: Recipe, config_of: ConfigOf) -> PretrainedConfig:
    """The donor's config with the result's dtype and shape (mergekit.merge._model_out_config)."""
    config = config_of(recipe.donor)
    depth, *lists = output_shape(recipe, config_of)
    content = {**config.to_dict(), "num_hidden_layers": depth}
    content |= {key: kinds for key, kinds in zip(PER_LAYER, lists, strict=True) if isinstance(kinds, list)}
    if dtype := recipe.out_dtype or recipe.dtype:
        content["dtype"] = dtype
    return type(config).from_dict(content)


def shape(config: PretrainedConfig) -> Shape:
    """The parts of a config that a path decides: the depth, and each layer's kind by each of PER_LAYER."""
    return (config.num_hidden_layers, *(getattr(config, key, None) for key in PER_LAYER))


def output_shape(recipe: Recipe, config_of: ConfigOf) -> Shape:
    """The shape of a recipe's config, which is needed for every candidate, unlike the config.

    A layer that is taken from one parent keeps the kind that it has there. A merged layer has the kind of the
    donor's layer with the same index, if there is one.
    """
    donor = recipe.donor
    whole = shape(config_of(donor))
    if recipe.path is None:
        return whole
    kinds = [_kind(part, layer, donor, config_of) for part, layer in recipe.path]
    lists = [
        [getattr(config, key)[layer] for config, layer in kinds] if isinstance(of_donor, list) else of_donor
        for key, of_donor in zip(PER_LAYER, whole[1:], strict=True)
    ]
    return (len(kinds), *lists)


def require_movable(configs: Mapping[str, Mapping[str, Any]], *, in_place: bool) -> None:
    """Raises RefusedInput unless a layer of any of these parents computes the same in all of them.

    ``configs`` are the parents' raw configs. A moved layer keeps its own kind, and reads everything else from
    the donor's config. ``in_place``: for an engine in which the kind belongs to a position, not to a layer.
    """
    read = {name: typed_config(raw, f"parent '{name}'") for name, raw in configs.items()}
    (first_name, first), *others = read.items()
    for name, other in others:
        for key in _READ_BY_LAYERS:
            ours, theirs = getattr(first, key, None), getattr(other, key, None)
            if ours != theirs:
                raise RefusedInput(
                    f"parents '{first_name}' and '{name}' have different {key} ({ours} and {theirs}), which "
                    "their layers were trained with: layers of both cannot follow each other; use parents "
                    "with equal settings"
                )
    for key in PER_LAYER if in_place else ():
        kinds = {str(kind) for config in read.values() for kind in getattr(config, key, None) or ()}
        if len(kinds) > 1:
            raise RefusedInput(
                f"the parents' layers are of several kinds ({', '.join(sorted(kinds))}), and vLLM cannot "
                "move a kind to another position: set engine.kind to transformers"
            )


def typed_config(raw: Mapping[str, Any], whose: str) -> PretrainedConfig:
    """A raw config as transformers reads it, with default values filled in.

    Raises RefusedInput for an unknown model type and for invalid values.
    """
    kind = str(raw.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise RefusedInput(f"{whose}: transformers knows no model type '{kind}'; use another model")
    try:
        config: PretrainedConfig = CONFIG_MAPPING[kind].from_dict(dict(raw))
    except Exception as error:  # each config class validates its values and may raise anything
        reason = " ".join(str(error).split())
        raise RefusedInput(f"{whose}: not a config of type '{kind}' ({reason})") from error
    return config


def has_lists(config: PretrainedConfig) -> bool:
    """Whether the config has a list with one entry for each layer."""
    return any(isinstance(kinds, list) for kinds in shape(config))


def _kind(part: Slice, layer: int, donor: Parent, config_of: ConfigOf) -> tuple[PretrainedConfig, int]:
    """The config and the index of the layer that decides the kind of a layer of the result."""
    merged = len(part.sources) > 1 and layer < config_of(donor).num_hidden_layers
    return config_of(donor if merged else part.sources[0].parent), layer

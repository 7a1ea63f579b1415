"""The config of a merged model: its donor's, with lists that have an entry for each layer rewritten.

Stock mergekit sets the number of layers and leaves such lists at their old length, with which the model does
not load (transformers: "num_hidden_layers must be equal to the number of layer types").
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

# What a layer reads in its model's config, beside sizes, which show in the tensors' shapes.
_READ_BY_LAYERS = ("hidden_act", "layer_norm_eps", "rms_norm_eps", "rope_parameters", "sliding_window")

ConfigOf = Callable[[Parent], PretrainedConfig]
Shape = tuple[object, ...]


def configs(folders: Mapping[Parent, Path]) -> ConfigOf:
    """Each parent's config, read when it is first asked for."""
    known: dict[Parent, PretrainedConfig] = {}

    def config_of(parent: Parent) -> PretrainedConfig:
        if parent not in known:
            known[parent] = AutoConfig.from_pretrained(folders[parent])
        return known[parent]

    return config_of


def expected_config(parent: Parent) -> PretrainedConfig:
    """A parent's config; a recipe's as it will have it once it is built, its vocabulary's size aside."""
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
    """What a path decides of a config: the depth, and of what kind each layer is, by each of PER_LAYER."""
    return (config.num_hidden_layers, *(getattr(config, key, None) for key in PER_LAYER))


def output_shape(recipe: Recipe, config_of: ConfigOf) -> Shape:
    """The shape of a recipe's config; it is asked for with every candidate, the config is not.

    A layer that is taken from one parent is of the kind that it is there; one that is merged is of the
    donor's kind.
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
    """Raises RefusedInput unless a layer of any of these parents, by raw config, computes the same in each.

    A moved layer keeps its own kind, and reads everything else in the donor's config. ``in_place``: for an
    engine in which the kind belongs to the place.
    """
    read = {name: typed_config(raw, f"parent '{name}'") for name, raw in configs.items()}
    (first_name, first), *others = read.items()
    for name, other in others:
        for key in _READ_BY_LAYERS:
            ours, theirs = getattr(first, key, None), getattr(other, key, None)
            if ours != theirs:
                raise RefusedInput(
                    f"parents '{first_name}' and '{name}' have different {key} ({ours} and {theirs}), which "
                    "their layers were trained with: layers of both cannot follow each other"
                )
    for key in PER_LAYER if in_place else ():
        kinds = {str(kind) for config in read.values() for kind in getattr(config, key, None) or ()}
        if len(kinds) > 1:
            raise RefusedInput(
                f"the parents' layers are of several kinds ({', '.join(sorted(kinds))}), which in vLLM stay "
                "where they are: set engine.kind to transformers"
            )


def typed_config(raw: Mapping[str, Any], whose: str) -> PretrainedConfig:
    """A raw config as transformers reads it, what it leaves out filled in. Raises RefusedInput."""
    kind = str(raw.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise RefusedInput(f"{whose}: transformers knows no model type '{kind}'")
    try:
        config: PretrainedConfig = CONFIG_MAPPING[kind].from_dict(dict(raw))
    except Exception as error:  # each config checks its own values, and raises whatever it raises
        reason = " ".join(str(error).split())
        raise RefusedInput(f"{whose}: not a config of type '{kind}' ({reason})") from error
    return config


def has_lists(config: PretrainedConfig) -> bool:
    """Whether the config has a list with an entry for each layer."""
    return any(isinstance(kinds, list) for kinds in shape(config))


def _kind(part: Slice, layer: int, donor: Parent, config_of: ConfigOf) -> tuple[PretrainedConfig, int]:
    """Whose layer of which number a layer of the result is like."""
    merged = len(part.sources) > 1 and layer < config_of(donor).num_hidden_layers
    return config_of(donor if merged else part.sources[0].parent), layer

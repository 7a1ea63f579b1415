"""The config of a merged model: its donor's, with lists that have an entry for each layer rewritten.

Stock mergekit sets the number of layers and leaves such lists at their old length, with which the model does
not load (transformers: "num_hidden_layers must be equal to the number of layer types").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from ..recipe import Parent, Recipe, Slice
from .headers import PER_LAYER

ConfigOf = Callable[[Parent], PretrainedConfig]


def configs(folders: Mapping[Parent, Path]) -> ConfigOf:
    """Each parent's config, read when it is first asked for."""
    known: dict[Parent, PretrainedConfig] = {}

    def config_of(parent: Parent) -> PretrainedConfig:
        if parent not in known:
            known[parent] = AutoConfig.from_pretrained(folders[parent])
        return known[parent]

    return config_of


def output_config(recipe: Recipe, config_of: ConfigOf) -> PretrainedConfig:
    """The donor's config with the result's dtype and depth (mergekit.merge._model_out_config).

    The donor is the recipe's base, else its first parent. A layer that is taken from one parent is of the
    kind that it is there; one that is merged is of the donor's kind.
    """
    donor = recipe.base or recipe.parents()[0]
    content = config_of(donor).to_dict()
    if dtype := recipe.out_dtype or recipe.dtype:
        content["dtype"] = dtype
    if recipe.path is not None:
        content["num_hidden_layers"] = len(recipe.path)
        kinds = [_kind(part, layer, donor, config_of) for part, layer in recipe.path]
        for key in PER_LAYER:
            if isinstance(content.get(key), list):
                content[key] = [getattr(config, key)[layer] for config, layer in kinds]
    return type(config_of(donor)).from_dict(content)


def shape(config: PretrainedConfig) -> tuple[object, ...]:
    """What a path decides of a config: the depth, and of what kind each layer is."""
    return (config.num_hidden_layers, *(getattr(config, key, None) for key in PER_LAYER))


def has_lists(config: PretrainedConfig) -> bool:
    """Whether the config has a list with an entry for each layer."""
    return any(isinstance(kinds, list) for kinds in shape(config))


def _kind(part: Slice, layer: int, donor: Parent, config_of: ConfigOf) -> tuple[PretrainedConfig, int]:
    """Whose layer of which number a layer of the result is like."""
    merged = len(part.sources) > 1 and layer < config_of(donor).num_hidden_layers
    return config_of(donor if merged else part.sources[0].parent), layer

"""Each parent's share of a recipe."""

from __future__ import annotations

from statistics import fmean

from .methods import METHODS
from .recipe import Conditional, Parent, Recipe, Setting, Slice, Source


def parent_shares(recipe: Recipe) -> dict[Parent, float]:
    """Each parent's share of a recipe. The shares sum to 1.

    A parent's share is proportional to its |weight|, averaged over the filters or gradient points of a slice
    and summed over the slices by their numbers of layers. The weights of ``slerp`` are 1 - t and t. In
    methods without weights (``karcher``, ``model_stock``, ``passthrough``, ...) every source of a slice
    counts the same, so a path is divided by layers. A base that only gives the origin of task vectors is in
    every recipe alike and has share 0, unless all weights are zero: then the recipe is the base. Densities
    and signs are ignored. The shares are bookkeeping, not a measure of influence.
    """
    apart = METHODS[recipe.method].base in ("required", "optional")
    amounts = dict.fromkeys(recipe.parents(), 0.0)
    for part in recipe.slices:
        for source in part.sources:
            if not (apart and source.parent == recipe.base):
                amounts[source.parent] += _layers(source) * _weight(recipe, part, source)
    if not any(amounts.values()):
        alone = [recipe.base] if apart and recipe.base else list(amounts)
        amounts |= dict.fromkeys(alone, 1.0)
    total = sum(amounts.values())
    return {parent: amount / total for parent, amount in amounts.items()}


def _layers(source: Source) -> int:
    """The number of layers of a source. A whole model is one unit, since its recipe has no other slice."""
    return 1 if source.layers is None else source.layers[1] - source.layers[0]


def _weight(recipe: Recipe, part: Slice, source: Source) -> float:
    """A source's weight in its slice. The most specific setting applies, as in mergekit."""
    settings = dict(recipe.parameters) | dict(part.parameters) | dict(source.parameters)
    if recipe.method == "slerp":
        t = _size(settings["t"])
        return 1.0 - t if source.parent == recipe.base else t
    return _size(settings.get("weight", 1.0)) if "weight" in METHODS[recipe.method].accepts else 1.0


def _size(setting: Setting) -> float:
    """The mean of a setting's absolute values."""
    values = setting if isinstance(setting, tuple) else (setting,)
    return fmean(_size(v.value) if isinstance(v, Conditional) else abs(float(v)) for v in values)

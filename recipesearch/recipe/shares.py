"""How much of a recipe each of its parents is."""

from __future__ import annotations

from statistics import fmean

from .methods import METHODS
from .recipe import Conditional, Parent, Recipe, Setting, Slice, Source


def parent_shares(recipe: Recipe) -> dict[Parent, float]:
    """How much of a recipe each of its parents is: shares that sum to 1.

    In proportion to a parent's |weight|, averaged over the filters or the gradient's points of a slice, and
    summed over its slices by their layers. ``slerp``'s t says 1 - t and t. Where a method has no weights
    (``karcher``, ``model_stock``, ``passthrough``, ...) each source of a slice counts the same, so that a
    path is divided by layers. A base that only gives the origin of task vectors is in every recipe alike
    and gets nothing, unless all weights are zero: then the recipe is the base. Densities and signs are not
    looked at: this is bookkeeping, not a measure of influence.
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
    """How many layers a source gives; a whole model is one unit, since its recipe has no other slice."""
    return 1 if source.layers is None else source.layers[1] - source.layers[0]


def _weight(recipe: Recipe, part: Slice, source: Source) -> float:
    """What a source's slice takes of it; the nearest statement counts, as in mergekit."""
    stated = dict(recipe.parameters) | dict(part.parameters) | dict(source.parameters)
    if recipe.method == "slerp":
        t = _size(stated["t"])
        return 1.0 - t if source.parent == recipe.base else t
    return _size(stated.get("weight", 1.0)) if "weight" in METHODS[recipe.method].accepts else 1.0


def _size(setting: Setting) -> float:
    """The mean of a setting's absolute values."""
    values = setting if isinstance(setting, tuple) else (setting,)
    return fmean(_size(v.value) if isinstance(v, Conditional) else abs(float(v)) for v in values)

"""The kinds of space, and how to open the space of a plan."""

from __future__ import annotations

from ..plan import SpacePlan
from .layers import LayerSpace
from .pool import Pool
from .weights import WeightSpace

# Both have genes, express(genome) -> Recipe, and active(genome) -> the genes that decide the recipe.
Space = WeightSpace | LayerSpace


def open_space(plan: SpacePlan, pool: Pool) -> Space:
    """The plan's space. Raises PlanError if the pool does not fit it."""
    if plan.weights:
        return WeightSpace(plan.weights, pool)
    assert plan.layers
    return LayerSpace(plan.layers, pool)

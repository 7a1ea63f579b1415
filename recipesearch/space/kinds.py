"""The kinds of spaces, and the one that a plan asks for."""

from __future__ import annotations

from ..plan import SpacePlan
from .layers import LayerSpace
from .pool import Pool
from .weights import WeightSpace

# Both have genes, express(genome) -> Recipe and active(genome) -> the genes that decide it.
Space = WeightSpace | LayerSpace


def open_space(plan: SpacePlan, pool: Pool) -> Space:
    """The plan's space. Raises PlanError if the pool does not fit it."""
    if plan.weights:
        return WeightSpace(plan.weights, pool)
    assert plan.layers
    return LayerSpace(plan.layers, pool)

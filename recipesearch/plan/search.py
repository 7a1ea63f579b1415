"""The section ``search``: the sampler and the budget."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, FiniteFloat, field_validator

from .section import Section


class ScalarizePlan(Section):
    """How several objectives become the one number that a sampler maximises (see pareto.py).

    ``ideal`` is chebyshev's reference point, one value for each objective. Default: 1 for a maximised
    objective, 0 for a minimised one.
    """

    kind: Literal["weighted_sum", "chebyshev"] = "weighted_sum"
    weights: tuple[FiniteFloat, ...]
    ideal: tuple[FiniteFloat, ...] | None = None


SamplerName = Literal[
    "auto", "merge_gp", "nsga2", "nsga3", "tpe", "gp", "cmaes", "sep_cmaes", "pycma", "catcmawm", "random"
]


class SearchPlan(Section):
    """The sampler and the budget.

    The search ends at the first limit, counted over all runs: ``trials`` scored recipes, ``max_items``
    answered items of all tasks, or ``hours`` of loading and scoring. ``items``: the number of each task's
    items that a new recipe is scored on, by default all. ``scalarize`` may be a plain list: the weights of a
    sum. A run stops with an error once ``max_failure_rate`` of its last 20 candidates have failed.
    """

    sampler: SamplerName = "auto"
    population: int = Field(default=10, ge=2)
    trials: int = Field(default=200, ge=1)
    items: int | None = Field(default=None, ge=2)
    max_items: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)
    scalarize: ScalarizePlan | None = None
    max_failure_rate: float = Field(default=0.5, gt=0, le=1)

    @field_validator("scalarize", mode="before")
    @classmethod
    def _weights_alone(cls, value: Any) -> Any:
        return {"weights": value} if isinstance(value, list | tuple) else value

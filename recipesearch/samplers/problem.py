"""The inputs of a model-based sampler beside a study's trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from .. import pareto
from ..plan import ScalarizePlan
from ..score import Measurement
from ..space.coordinates import Coordinates, CoordinateSystem

Array = NDArray[np.float64]
Scores = Sequence[Measurement]
Known = Mapping[str, tuple[Coordinates, Scores]]


@dataclass(frozen=True)
class Problem:
    """The coordinates of a study's space, and its objectives.

    - ``point``: the coordinates of a trial's recipe.
    - ``signs``: for each objective -1 if it is maximised, else 1.
    - ``bounds``: for each objective the greatest loss within its bound, None without a bound.
    - ``scores``: a complete trial's measurements in the objectives' order.
    - ``repeated``: whether a genome's recipe was tried before.
    - ``known``: what other studies in the database had scored when this study was created, by digest.
    """

    system: CoordinateSystem
    point: Callable[[FrozenTrial], Coordinates]
    signs: tuple[int, ...]
    bounds: Callable[[], Sequence[float | None]]
    scores: Callable[[FrozenTrial], Scores | None]
    repeated: Callable[[Mapping[str, Any]], bool]
    scalarize: ScalarizePlan | None = None
    known: Known = field(default_factory=dict)


def scalarized(plan: ScalarizePlan, signs: Sequence[int], losses: Array) -> Array:
    """The single number that a scalarised study maximises, from losses along the last axis."""
    gains, weights = -losses, np.array(plan.weights)
    if plan.kind == "weighted_sum":
        return pareto.weighted_sum(gains, weights)
    best = np.array(signs) < 0
    ideal = np.where(best, 1.0, 0.0) if plan.ideal is None else -np.array(signs) * np.array(plan.ideal)
    return pareto.chebyshev(gains, weights, ideal)

"""The observations that a model takes: of very many the best, and an even share of the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import pareto

MOST_OBSERVATIONS = 400  # a fit's time grows with the cube of their number


def most_telling(losses: NDArray[np.float64]) -> list[int]:
    """The points that a model takes, from ``losses`` of shape (points, objectives).

    All points; of very many the front, the front of the others, and so on for one half, and an even share of
    the rest.
    """
    rest = np.arange(len(losses))
    if len(losses) <= MOST_OBSERVATIONS:
        return rest.tolist()
    best: list[int] = []
    while len(best) < MOST_OBSERVATIONS // 2:
        layer = pareto.front(losses[rest])
        best, rest = best + rest[layer].tolist(), rest[~layer]
    best = best[: MOST_OBSERVATIONS // 2]
    others = np.setdiff1d(np.arange(len(losses)), best)
    return sorted(
        [*best, *others[np.linspace(0, len(others) - 1, MOST_OBSERVATIONS - len(best)).astype(int)].tolist()]
    )

"""Dominance, front, hypervolume and knee of arrays of losses, shape (points, objectives).

Lower is better throughout. Negate the values of objectives that are maximized.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]
MOST_OBJECTIVES = 4  # with more, exact volumes of a study's front take too long
_AUGMENTATION = 0.05


def front(losses: Losses) -> NDArray[np.bool_]:
    """Whether each point is on the front, that is, dominated by no other: shape (points,).

    Equal points are all on the front. Uses Optuna's test, which sorts first: comparing all pairs takes
    seconds at 10,000 points.
    """
    from optuna.study._multi_objective import _is_pareto_front

    return np.asarray(_is_pareto_front(losses, assume_unique_lexsorted=False))


def hypervolume(losses: Losses, reference: Losses) -> float:
    """The volume between the front and ``reference``, shape (objectives,).

    Points beyond ``reference`` add nothing. Uses Optuna's exact algorithm (WFG, While et al. 2012).
    """
    from optuna._hypervolume import compute_hypervolume

    inside = losses[(losses < reference).all(axis=1)]
    return float(compute_hypervolume(inside, reference)) if len(inside) else 0.0


def beyond(losses: Losses) -> Losses:
    """A reference point for the volumes of these points, shape (objectives,).

    In each objective it lies beyond the worst value by a hundredth of the range (of 1 if all points are
    equal). At the worst value itself the ends of a front would add nothing.
    """
    worst, best = losses.max(axis=0), losses.min(axis=0)
    return np.asarray(worst + 0.01 * np.where(worst > best, worst - best, 1.0))


def contributions(losses: Losses, reference: Losses) -> Losses:
    """The volume up to ``reference`` that each point alone dominates, shape (points,).

    This is the point's own box minus the part that the other points cover (the exclusive hypervolume of While
    et al. 2012). Equal points divide their volume equally. Dominated points have none.
    """
    distinct, place, copies = np.unique(losses, axis=0, return_inverse=True, return_counts=True)
    own = [
        float(np.prod(np.maximum(reference - point, 0.0)))
        - hypervolume(np.maximum(np.delete(distinct, index, axis=0), point), reference)
        for index, point in enumerate(distinct)
    ]
    shared = np.maximum(own, 0.0) / copies  # rounding may give a negative volume
    return np.asarray(shared[place.reshape(-1)])


def knee(losses: Losses) -> int:
    """The index of the front's point nearest the ideal point, with the front scaled to a unit box."""
    members = np.flatnonzero(front(losses))
    points = losses[members]
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    return int(members[np.argmin((scaled**2).sum(axis=1))])


def weighted_sum(gains: Losses, weights: Losses) -> float:
    """The weighted sum of gains (higher is better). ``gains`` and ``weights``: shape (objectives,)."""
    return float(gains @ weights)


def chebyshev(gains: Losses, weights: Losses, ideal: Losses) -> float:
    """Minus the augmented weighted Chebyshev distance of gains (higher is better) from the ideal point.

    Steuer and Choo, 1983. The largest weighted shortfall decides, and a small share of the sum of all
    shortfalls breaks ties. It can reach every member of a front. A weighted sum reaches only the members on
    the front's convex hull.
    """
    shortfall = weights * (ideal - gains)
    return -float(shortfall.max() + _AUGMENTATION * shortfall.sum())

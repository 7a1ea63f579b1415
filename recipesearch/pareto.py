"""Dominance, front, hypervolume and knee: functions on arrays of losses, shape (points, objectives).

Lower is better throughout; who maximises passes negated values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]
MOST_OBJECTIVES = 4  # beyond, exact volumes of a study's front take too long
_AUGMENTATION = 0.05


def front(losses: Losses) -> NDArray[np.bool_]:
    """Which points no other point dominates: shape (points,). Equal points are all on the front.

    Optuna's own test, which sorts first: comparing all pairs takes seconds at 10,000 points.
    """
    from optuna.study._multi_objective import _is_pareto_front

    return np.asarray(_is_pareto_front(losses, assume_unique_lexsorted=False))


def hypervolume(losses: Losses, reference: Losses) -> float:
    """The volume between the front and ``reference``, shape (objectives,). Points beyond it add nothing.

    Optuna's exact algorithm (WFG, While et al. 2012).
    """
    from optuna._hypervolume import compute_hypervolume

    inside = losses[(losses < reference).all(axis=1)]
    return float(compute_hypervolume(inside, reference)) if len(inside) else 0.0


def beyond(losses: Losses) -> Losses:
    """A reference point for the volumes of these points, shape (objectives,): a hundredth of their range
    beyond the worst of each objective. At the worst itself the ends of a front would add nothing.

    An objective in which all are equal counts as if it had a range of 1.
    """
    worst, best = losses.max(axis=0), losses.min(axis=0)
    return np.asarray(worst + 0.01 * np.where(worst > best, worst - best, 1.0))


def contributions(losses: Losses, reference: Losses) -> Losses:
    """The volume up to ``reference`` that each point dominates and no other does, shape (points,).

    Equal points share theirs, which none of them dominates alone. Dominated points have none. A point's own
    box, less what the others cover of it (the exclusive hypervolume of While et al. 2012).
    """
    distinct, place, copies = np.unique(losses, axis=0, return_inverse=True, return_counts=True)
    own = [
        float(np.prod(np.maximum(reference - point, 0.0)))
        - hypervolume(np.maximum(np.delete(distinct, index, axis=0), point), reference)
        for index, point in enumerate(distinct)
    ]
    shared = np.maximum(own, 0.0) / copies  # rounding may leave less than nothing
    return np.asarray(shared[place.reshape(-1)])


def knee(losses: Losses) -> int:
    """The index of the best compromise: of the front scaled to a unit box, the point nearest the ideal."""
    members = np.flatnonzero(front(losses))
    points = losses[members]
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    return int(members[np.argmin((scaled**2).sum(axis=1))])


def weighted_sum(gains: Losses, weights: Losses) -> float:
    """The sum of gains (higher is better), shape (objectives,), by their weights."""
    return float(gains @ weights)


def chebyshev(gains: Losses, weights: Losses, ideal: Losses) -> float:
    """Minus the augmented weighted Chebyshev distance of gains (higher is better) from the ideal point.

    Steuer and Choo, 1983: the worst weighted shortfall decides, a little of their sum breaks ties. It
    reaches every member of a front, where a weighted sum reaches those of its convex hull.
    """
    shortfall = weights * (ideal - gains)
    return -float(shortfall.max() + _AUGMENTATION * shortfall.sum())

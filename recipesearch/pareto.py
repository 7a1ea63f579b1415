"""Dominance, front, hypervolume and knee of arrays of losses, shape (points, objectives).

Lower is better throughout; negate the values of an objective that is maximised.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]
MOST_OBJECTIVES = 4  # exact volumes of a study's front take too long for more
_AUGMENTATION = 0.05


def front(losses: Losses) -> NDArray[np.bool_]:
    """The mask of the points that no other point dominates, shape (points,). Duplicates are all on the front.

    Uses Optuna's test, which sorts first: comparing all pairs takes seconds at 10,000 points.
    """
    from optuna.study._multi_objective import _is_pareto_front

    if not len(losses):
        return np.zeros(0, bool)
    return np.asarray(_is_pareto_front(losses, assume_unique_lexsorted=False))


def hypervolume(losses: Losses, reference: Losses) -> float:
    """The volume between the front and ``reference``, shape (objectives,).

    Points that are not better than ``reference`` in every objective add nothing. Uses Optuna's exact
    algorithm (WFG, While et al. 2012).
    """
    from optuna._hypervolume import compute_hypervolume

    inside = losses[(losses < reference).all(axis=1)]
    return float(compute_hypervolume(inside, reference)) if len(inside) else 0.0


def free_boxes(losses: Losses, reference: Losses) -> tuple[Losses, Losses]:
    """The region better than ``reference`` that no point dominates, as boxes: lower and upper corners.

    Both have shape (boxes, objectives), for two objectives or more. The boxes do not overlap (Lacour et al.
    2017, by Optuna).
    """
    from optuna._hypervolume.box_decomposition import get_non_dominated_box_bounds

    inside = losses[(losses < reference).all(axis=1)]
    if not len(inside):
        return np.full((1, len(reference)), -np.inf), reference[None]
    lower, upper = get_non_dominated_box_bounds(inside, reference)
    return np.asarray(lower), np.asarray(upper)


def beyond(losses: Losses) -> Losses:
    """The reference point for the volumes of these points, shape (objectives,).

    In each objective the reference is worse than the worst point by a hundredth of the points' range; a range
    of 0 counts as 1. With the worst point itself as reference, the ends of the front would add no volume.
    """
    worst, best = losses.max(axis=0), losses.min(axis=0)
    return np.asarray(worst + 0.01 * np.where(worst > best, worst - best, 1.0))


def volumes(losses: Losses, counts: Iterable[int]) -> list[float]:
    """The hypervolume of the first ``count`` points, for each of the ascending ``counts``.

    The reference is ``beyond`` all points, so that the volumes can be compared with each other.
    """
    reference, kept, start = beyond(losses), losses[:0], 0
    found = []
    for count in counts:
        # The front of a union is the front of the old front and the new points, which keeps this fast.
        points = np.unique(np.concatenate([kept, losses[start:count]]), axis=0)
        kept, start = points[front(points)], count
        found.append(hypervolume(kept, reference))
    return found


def contributions(losses: Losses, reference: Losses) -> Losses:
    """The volume up to ``reference`` that each point dominates and no other point does, shape (points,).

    This is the exclusive hypervolume of While et al. (2012): a point's own box, less the part that other
    points cover. Duplicates count as one point and share its volume equally. Dominated points get 0.
    """
    distinct, place, copies = np.unique(losses, axis=0, return_inverse=True, return_counts=True)
    own = [
        float(np.prod(np.maximum(reference - point, 0.0)))
        - hypervolume(np.maximum(np.delete(distinct, index, axis=0), point), reference)
        for index, point in enumerate(distinct)
    ]
    shared = np.maximum(own, 0.0) / copies  # rounding may give small negative values
    return np.asarray(shared[place.reshape(-1)])


def knee(losses: Losses) -> int:
    """The index of the best compromise: the front's point nearest to the ideal, in the front's unit box."""
    members = np.flatnonzero(front(losses))
    points = losses[members]
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    return int(members[np.argmin((scaled**2).sum(axis=1))])


def weighted_sum(gains: Losses, weights: Losses) -> Losses:
    """The weighted sum of gains (higher is better) along the last axis, which has the objectives."""
    return np.asarray(gains @ weights)


def chebyshev(gains: Losses, weights: Losses, ideal: Losses) -> Losses:
    """The negated augmented Chebyshev distance of gains (higher is better) from ``ideal``.

    Computed along the last axis, which has the objectives.

    Steuer and Choo (1983): the largest weighted shortfall decides, and a small share of the shortfalls' sum
    breaks ties. Every member of a front is the optimum for some weights; a weighted sum reaches only the
    members on the front's convex hull.
    """
    shortfall = weights * (ideal - gains)
    return np.asarray(-(shortfall.max(axis=-1) + _AUGMENTATION * shortfall.sum(axis=-1)))

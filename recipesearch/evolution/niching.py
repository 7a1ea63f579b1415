"""Who stays when an era has more parents than places. Functions on arrays. Light."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

Gains = NDArray[np.float64]
_LITTLE = 1e-9


def survivors(gains: Gains, places: int, *, niching: bool, always: Set[int] = frozenset()) -> list[int]:
    """The candidates that stay, in their order; ``gains`` are theirs on the items, shape (candidates, items).

    Gains lie in [0, 1], higher is better; NaN, which counts as 0, where there is none. The weakest leaves
    until the rest have places. With ``niching`` all are judged anew each time by ``shared_fitness``, so that
    of two that know the same one is redundant; else by their mean. Those in ``always`` stay.
    """
    known = np.nan_to_num(gains, nan=0.0)
    kept = list(range(len(known)))
    while len(kept) > max(places, len(always)):
        fitness = shared_fitness(known[kept]) if niching else known[kept].mean(axis=1)
        # Of equals the youngest leaves.
        leaving = min((f, -place) for place, f in zip(kept, fitness, strict=True) if place not in always)
        kept.remove(-leaving[1])
    return kept


def shared_fitness(gains: Gains) -> Gains:
    """Each candidate's share of what there is to know, shape (candidates,).

    M2N2's competition for limited resources (2508.16204): an item's capacity of 1 is divided among
    those who have it, in proportion to their gains.
    """
    return np.asarray((gains / (gains.sum(axis=0) + _LITTLE)).sum(axis=1))


def mates(gains: Gains, count: int) -> list[tuple[int, int]]:
    """Pairs of parents that know what the other does not: the ``count`` fittest, each with its best mate.

    M2N2's attraction (2508.16204): what the mate is better at, where few others are good. A pair
    comes once.
    """
    known = np.nan_to_num(gains, nan=0.0)
    scarcity = 1.0 / (known.sum(axis=0) + _LITTLE)
    pairs: list[tuple[int, int]] = []
    for one in np.argsort(-shared_fitness(known), kind="stable"):
        attraction = (np.maximum(known - known[one], 0.0) * scarcity).sum(axis=1)
        attraction[one] = -1.0
        other = int(attraction.argmax())
        pair = (min(int(one), other), max(int(one), other))
        if attraction[other] > 0 and pair not in pairs and len(pairs) < count:
            pairs.append(pair)
    return pairs

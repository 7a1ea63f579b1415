"""Who stays when an era has more parents than places. Functions on arrays. Light."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

Gains = NDArray[np.float64]


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
    return np.asarray((gains * _scarcity(gains)).sum(axis=1))


def mates(gains: Gains, count: int) -> list[tuple[int, int]]:
    """Pairs of parents that know what the other does not: the fittest, each with its best mate, until there
    are ``count``.

    After M2N2's attraction (2508.16204): what one is better at, where few others are good. There the second
    parent is chosen for the first; here the lesser of the two attractions counts: both bring something.
    """
    known = np.nan_to_num(gains, nan=0.0)
    scarcity = _scarcity(known)
    pairs: list[tuple[int, int]] = []
    for one in np.argsort(-shared_fitness(known), kind="stable"):
        brings = (np.maximum(known - known[one], 0.0) * scarcity).sum(axis=1)
        gets = (np.maximum(known[one] - known, 0.0) * scarcity).sum(axis=1)
        other = int(np.minimum(brings, gets).argmax())
        pair = (min(int(one), other), max(int(one), other))
        if min(brings[other], gets[other]) > 0 and pair not in pairs and len(pairs) < count:
            pairs.append(pair)
    return pairs


def _scarcity(gains: Gains) -> Gains:
    """One over what all have of an item, shape (items,); 0 where nobody has any."""
    total = gains.sum(axis=0)
    return np.asarray(np.divide(1.0, total, out=np.zeros_like(total), where=total > 0))

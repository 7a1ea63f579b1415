"""Selects the parents of an era with more candidates than places. Functions on arrays. Light."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

Gains = NDArray[np.float64]


def survivors(gains: Gains, places: int, *, niching: bool, always: Set[int] = frozenset()) -> list[int]:
    """The indices of the candidates that are kept, in order.

    ``gains`` are the candidates' gains on the items, shape (candidates, items), in [0, 1], higher is better;
    a missing gain is NaN and counts as 0. The weakest candidate is dropped until at most ``places`` are left.
    With ``niching`` the fitness is ``shared_fitness``, computed again after each drop, so that one of two
    candidates with the same gains is redundant; otherwise it is the mean gain. Candidates in ``always`` are
    never dropped.
    """
    known = np.nan_to_num(gains, nan=0.0)
    kept = list(range(len(known)))
    while len(kept) > max(places, len(always)):
        fitness = shared_fitness(known[kept]) if niching else known[kept].mean(axis=1)
        # Of equal candidates the last one is dropped.
        leaving = min((f, -place) for place, f in zip(kept, fitness, strict=True) if place not in always)
        kept.remove(-leaving[1])
    return kept


def shared_fitness(gains: Gains) -> Gains:
    """Each candidate's share of all items, shape (candidates,); higher is better.

    M2N2's competition for limited resources (2508.16204): an item's capacity of 1 is divided among the
    candidates in proportion to their gains.
    """
    return np.asarray((gains * _scarcity(gains)).sum(axis=1))


def mates(gains: Gains, count: int) -> list[tuple[int, int]]:
    """Up to ``count`` pairs of complementary parents, as indices: the fittest first, each with its best mate.

    ``gains`` as in ``survivors``. After M2N2's attraction (2508.16204): the gain of one parent over the
    other, weighted by the scarcity of each item. M2N2 chooses the second parent by its attraction for the
    first; here the smaller of both attractions counts, so that both parents contribute.
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
    """The inverse of the summed gains on each item, shape (items,); 0 where all gains are 0."""
    total = gains.sum(axis=0)
    return np.asarray(np.divide(1.0, total, out=np.zeros_like(total), where=total > 0))

"""Bounds: a floor for a maximized goal's value, a ceiling for a minimized one's."""

from __future__ import annotations

from collections.abc import Sequence

from ..score import Goal


def violation(goal: Goal, value: float, parents: Sequence[float]) -> float | None:
    """The distance by which a value misses its goal's bound: at most 0 within the bound; None without one.

    ``parents`` are the parents' own values: ``within`` is a share of the best parent's value.
    """
    bound = _bound(goal, parents)
    return None if bound is None else goal.sign * (value - bound)


def _bound(goal: Goal, parents: Sequence[float]) -> float | None:
    if goal.bound is not None:
        return float(goal.bound)
    if goal.within is None or not parents:
        return None
    best = max(parents) if goal.maximize else min(parents)
    return best + goal.sign * abs(best) * float(goal.within)

"""Bounds: objectives that must not fall below a floor (or, minimised, rise above a ceiling)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Described = Mapping[str, Any]  # one of the identity's objectives


def violation(objective: Described, value: float, parents: Sequence[float]) -> float | None:
    """By how much a value misses its objective's bound: at most 0 within it, None where there is none.

    ``parents`` are the parents' own values: a bound ``within`` a share is a share of the best of them.
    """
    bound = _bound(objective, parents)
    if bound is None:
        return None
    return bound - value if objective["maximize"] else value - bound


def _bound(objective: Described, parents: Sequence[float]) -> float | None:
    if objective.get("bound") is not None:
        return float(objective["bound"])
    if objective.get("within") is None or not parents:
        return None
    best = max(parents) if objective["maximize"] else min(parents)
    slack = abs(best) * float(objective["within"])
    return best - slack if objective["maximize"] else best + slack

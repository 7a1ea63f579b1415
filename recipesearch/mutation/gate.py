"""The gate accepts a mutant that is better than its source on the same items, and nowhere worse.

Light. Search items judge, as they have chosen the winner: what was lucky on them has to be beaten there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from ..plan import MutationPlan
from ..score import Goal

_RESAMPLES = 9999
_AT_ONCE = 1_000_000  # numbers in memory
_SEED = 0  # of the resampling; the same items give the same p

Items = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Answers:
    """Two models' answers to one goal, before and after: the aggregated values, and the items."""

    goal: Goal
    values: tuple[float, float]
    items: tuple[Items, Items]


@dataclass(frozen=True)
class Change:
    """What happened to one metric: ``gain`` is positive where it is better, ``p`` is that of no gain."""

    name: str
    before: float
    after: float
    gain: float
    p: float | None
    items: int


@dataclass(frozen=True)
class Verdict:
    """Whether a mutant is let in, why, and by which numbers."""

    accepted: bool
    reason: str
    changes: Sequence[Change]


def judge(answers: Sequence[Answers], objectives: int, plan: MutationPlan) -> Verdict:
    """Accepts a mutant if at least one objective improves with p < ``significance`` / ``objectives``
    (Bonferroni) and no goal gets worse by more than ``tolerance``: absolute, relative for values above 1 such
    as tokens and perplexities.

    The first ``objectives`` of the ``answers`` are the objectives; the others are only monitored.
    """
    changes = [_change(one) for one in answers]
    worse = [c for c in changes if c.gain < -plan.tolerance * max(1.0, abs(c.before))]
    if worse:
        lost = max(worse, key=lambda change: -change.gain)
        return Verdict(False, f"worse: {_told(lost)}, tolerance {plan.tolerance:g}", changes)
    level = plan.significance / objectives
    better = [c for c in changes[:objectives] if c.gain > 0 and c.p is not None and c.p < level]
    if not better:
        most = max(changes[:objectives], key=lambda change: change.gain)
        return Verdict(False, f"not better: {_told(most)}, wanted p < {level:.3g}", changes)
    return Verdict(True, f"better: {'; '.join(map(_told, better))}", changes)


def paired_p(before: Items, after: Items, metric: str, sign: float = 1.0) -> tuple[float | None, int]:
    """The one-sided p of no gain by random sign flips of the items' differences, and the number of items.

    scipy's paired permutation test of the mean; of right-or-wrong items it is McNemar's. None where fewer
    than two items have a number before and after.
    """
    values = ((before[key].get(metric), after[key].get(metric)) for key in before if key in after)
    gains = sign * np.array([a - b for b, a in values if _is_number(b) and _is_number(a)], dtype=float)
    if len(gains) < 2:
        return None, len(gains)
    if not gains.any():
        return 1.0, len(gains)
    from scipy.stats import permutation_test

    test = permutation_test(
        (gains,),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        alternative="greater",
        n_resamples=_RESAMPLES,
        batch=max(1, _AT_ONCE // len(gains)),
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    )
    return float(test.pvalue), len(gains)


def _change(answers: Answers) -> Change:
    goal, (before, after) = answers.goal, answers.values
    sign = -float(goal.sign)
    p, items = paired_p(*answers.items, goal.metric, sign)
    return Change(goal.name, before, after, sign * (after - before), p, items)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, bool | int | float)


def _told(change: Change) -> str:
    p = "unpaired" if change.p is None else f"p {change.p:.2g}"
    return f"{change.name} {change.before:.3f} -> {change.after:.3f} ({p}, {change.items} items)"

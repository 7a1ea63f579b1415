"""The gate: accepts a mutant that is better than its source on the same items, and nowhere worse.

Light. The gate compares on the search items, because the winner was chosen by them: a score that was high by
chance must be beaten on the same items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from ..plan import MutationPlan
from ..score import Goal

_RESAMPLES = 9999
_AT_ONCE = 1_000_000  # resampled numbers in memory at a time
_SEED = 0  # fixed, so that the same items give the same p

Items = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Answers:
    """Two models' answers for one goal, before and after the mutation: aggregated values, and items."""

    goal: Goal
    values: tuple[float, float]
    items: tuple[Items, Items]


@dataclass(frozen=True)
class Change:
    """The change of one metric: ``gain`` is positive if the mutant is better; ``p`` tests for no gain."""

    name: str
    before: float
    after: float
    gain: float
    p: float | None
    items: int


@dataclass(frozen=True)
class Verdict:
    """Whether a mutant is accepted, the reason, and the measured changes."""

    accepted: bool
    reason: str
    changes: Sequence[Change]


def judge(answers: Sequence[Answers], objectives: int, plan: MutationPlan) -> Verdict:
    """Accepts a mutant if at least one objective improves with p < ``significance`` / ``objectives``
    (Bonferroni) and no goal gets worse by more than ``tolerance``: absolute, but relative for values above 1
    such as tokens and perplexities.

    The first ``objectives`` of the ``answers`` are the objectives; the others are only monitored.
    """
    changes = [_change(one) for one in answers]
    worse = [c for c in changes if c.gain < -plan.tolerance * max(1.0, abs(c.before))]
    if worse:
        lost = max(worse, key=lambda change: -change.gain)
        return Verdict(False, f"worse: {_described(lost)}, tolerance {plan.tolerance:g}", changes)
    level = plan.significance / objectives
    better = [c for c in changes[:objectives] if c.gain > 0 and c.p is not None and c.p < level]
    if not better:
        most = max(changes[:objectives], key=lambda change: change.gain)
        return Verdict(False, f"not better: {_described(most)}, requires p < {level:.3g}", changes)
    return Verdict(True, f"better: {'; '.join(map(_described, better))}", changes)


def paired_p(before: Items, after: Items, metric: str, sign: float = 1.0) -> tuple[float | None, int]:
    """The one-sided p value of no gain, by random sign flips of the items' differences, and the item count.

    scipy's paired permutation test of the mean; for right-or-wrong items it equals McNemar's test. p is None
    if fewer than two items have a number before and after.
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


def _described(change: Change) -> str:
    p = "unpaired" if change.p is None else f"p {change.p:.2g}"
    return f"{change.name} {change.before:.3f} -> {change.after:.3f} ({p}, {change.items} items)"

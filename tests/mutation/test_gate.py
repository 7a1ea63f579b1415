"""The gate: who is let in, by numbers that can be worked out by hand."""

import math
import random

import pytest
from scipy.stats import binomtest

from recipesearch.mutation.gate import Answers, judge, paired_p
from recipesearch.plan import MutationPlan
from recipesearch.score import Goal

PLAN = MutationPlan(significance=0.05, tolerance=0.05)
NOISE = 4 / math.sqrt(4 * 9999)  # four standard errors of a p that 9999 resamples tell, at most


def items(values, metric="exact_match"):
    return {f"{place:03d}": {metric: value} for place, value in enumerate(values)}


def answers(name, before, after, maximize=True, values=None):
    """One metric by its items; the aggregated values are the means, or those given."""
    means = values or (sum(before) / len(before), sum(after) / len(after))
    return Answers(Goal(name, "task", "exact_match", maximize), means, (items(before), items(after)))


def p_of(gains, sign=1.0):
    return paired_p(items([0.0] * len(gains)), items(gains), "exact_match", sign)[0]


BETTER = answers("sum", [0] * 20 + [1] * 20, [1] * 10 + [0] * 10 + [1] * 20)
SAME = answers("read", [1, 0] * 20, [1, 0] * 20)


# -- p


@pytest.mark.parametrize(
    ("gains", "p"),
    [
        ([1, 1, 1], 1 / 8),  # the one of 8 patterns of signs that is as good
        ([1, 1, -1], 4 / 8),  # sums 1 and 3: three patterns and one
        ([3, 1], 1 / 4),
        ([1, -3], 3 / 4),  # -2 is reached by -2, 2 and 4
        ([0.5, 0, 0, 0.25], 4 / 16),
        ([-1, -1], 1),
    ],
)
def test_few_items_are_counted_out(gains, p):
    assert p_of(gains) == pytest.approx(p)


@pytest.mark.parametrize(("better", "worse", "equal"), [(10, 0, 30), (14, 6, 20), (9, 8, 3), (5, 12, 200)])
def test_of_right_or_wrong_items_it_is_mcnemars_exact_test(better, worse, equal):
    exact = binomtest(better, better + worse, 0.5, alternative="greater").pvalue
    assert p_of([1] * better + [-1] * worse + [0] * equal) == pytest.approx(exact, abs=NOISE)


def test_right_and_wrong_may_be_booleans():
    before, after = items([False] * 4), items([True] * 4)
    assert paired_p(before, after, "exact_match") == (1 / 16, 4)


def test_a_minimised_metric_gains_by_falling():
    assert p_of([-1, -1, -1], sign=-1.0) == 1 / 8
    assert p_of([-1, -1, -1]) == 1


def test_no_difference_is_no_evidence():
    assert p_of([0.0] * 30) == 1


def test_p_is_the_same_each_time_and_hardly_moves_with_the_order_of_items():
    chance = random.Random(0)
    gains = [chance.gauss(0.2, 1.0) for _ in range(60)]
    shuffled = chance.sample(gains, len(gains))
    assert p_of(gains) == p_of(gains)
    assert 0 < p_of(gains) < 0.5
    assert p_of(shuffled) == pytest.approx(p_of(gains), abs=2 * NOISE)


def test_items_are_paired_by_their_key_and_not_by_their_place():
    before, after = items([0, 1, 0, 1]), items([1, 1, 1, 1])
    turned = dict(reversed(after.items()))
    assert paired_p(before, turned, "exact_match") == paired_p(before, after, "exact_match")
    assert paired_p(before, turned, "exact_match")[0] == 1 / 4


def test_only_items_with_a_number_before_and_after_count():
    before = items([0, 0, None, 0, [1, 2]])
    after = items([1, 1, 1, None, [1, 2]]) | {"other": {"exact_match": 1}}
    assert paired_p(before, after, "exact_match") == (1 / 4, 2)
    assert paired_p(before, after, "f1") == (None, 0)
    assert paired_p(items([0]), items([1]), "exact_match") == (None, 1)


# -- the decision


def test_a_significant_gain_lets_a_mutant_in_and_is_told():
    verdict = judge([BETTER, SAME], 2, PLAN)
    assert verdict.accepted
    assert verdict.reason.startswith("better: sum 0.500 -> 0.750 (p 0.00")
    change = verdict.changes[0]
    assert (change.before, change.after, change.gain, change.items) == (0.5, 0.75, 0.25, 40)
    assert verdict.changes[1].p == 1


def test_a_gain_that_may_be_luck_does_not():
    lucky = answers("sum", [0] * 40, [1] * 3 + [0] * 37)  # p = 1/8
    verdict = judge([SAME, lucky], 2, PLAN)
    assert not verdict.accepted
    assert verdict.reason == "not better: sum 0.000 -> 0.075 (p 0.12, 40 items), requires p < 0.025"


def test_the_significance_is_shared_out_among_the_objectives_and_not_the_watched_tasks():
    """Five of five: p is 1/32 = 0.031, between 0.05 and its half."""
    five = answers("sum", [0] * 10, [1] * 5 + [0] * 5)
    assert judge([five], 1, PLAN).accepted
    assert judge([five, SAME], 1, PLAN).accepted
    assert not judge([five, SAME], 2, PLAN).accepted
    assert judge([five, SAME], 2, PLAN.model_copy(update={"significance": 0.07})).accepted


@pytest.mark.parametrize("objectives", [1, 2], ids=["a watched task", "another objective"])
def test_what_is_lost_elsewhere_keeps_a_mutant_out(objectives):
    lost = answers("read", [1] * 40, [1] * 37 + [0] * 3)
    verdict = judge([BETTER, lost], objectives, PLAN)
    assert not verdict.accepted
    assert verdict.reason.startswith("worse: read 1.000 -> 0.925")
    assert judge([BETTER, lost], objectives, PLAN.model_copy(update={"tolerance": 0.08})).accepted


def test_the_greatest_loss_is_the_one_that_is_told():
    small, great = answers("a", [1] * 10, [1] * 9 + [0]), answers("b", [1] * 10, [1] * 5 + [0] * 5)
    assert judge([BETTER, small, great], 3, PLAN).reason.startswith("worse: b ")


def test_a_gain_on_a_watched_task_lets_nobody_in():
    verdict = judge([SAME, BETTER], 1, PLAN)
    assert not verdict.accepted
    assert verdict.reason.startswith("not better: read")


def test_a_minimised_objective_is_better_where_it_falls_and_worse_where_it_rises():
    fell = answers("length", [9.0] * 10, [5.0] * 10, maximize=False)
    rose = answers("length", [5.0] * 10, [9.0] * 10, maximize=False)
    assert judge([fell], 1, PLAN).accepted
    assert judge([fell], 1, PLAN).changes[0].gain == 4
    assert judge([rose], 1, PLAN).reason.startswith("worse: length")


def test_a_metric_without_numbers_by_item_lets_nobody_in_but_can_keep_out():
    def f1(before, after):
        return Answers(Goal("f1", "task", "f1"), (before, after), (items([0] * 9), items([1] * 9)))

    verdict = judge([f1(0.2, 0.9)], 1, PLAN)
    assert not verdict.accepted
    assert verdict.changes[0].p is None
    assert "(unpaired, 0 items)" in verdict.reason
    assert not judge([BETTER, f1(0.9, 0.2)], 2, PLAN).accepted


def test_a_decision_is_the_same_each_time():
    assert judge([BETTER, SAME], 2, PLAN) == judge([BETTER, SAME], 2, PLAN)


def test_beyond_one_the_tolerance_is_a_share():
    """A tenth of a token more is no loss of 0.1."""
    longer = answers("length", [120] * 10, [121] * 10, maximize=False)
    assert judge([BETTER, longer], 2, PLAN).accepted
    much = answers("length", [120] * 10, [130] * 10, maximize=False)
    assert not judge([BETTER, much], 2, PLAN).accepted


def test_many_items_are_judged_without_all_resamples_in_memory_at_once():
    import tracemalloc

    chance = random.Random(1)
    gains = [chance.choice([-1, 0, 0, 1, 1]) for _ in range(2000)]
    tracemalloc.start()
    p = p_of(gains)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert p == pytest.approx(1e-4, abs=1e-4)
    assert peak < 100e6  # all at once take 1.3 GB

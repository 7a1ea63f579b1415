"""Bounds: recipes beyond them never lead, and the sampler is told by how much they miss."""

import functools
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from recipesearch.errors import PlanError
from recipesearch.plan import Plan
from recipesearch.score import Goal
from recipesearch.search import run as search
from recipesearch.study.bounds import violation
from recipesearch.study.storage import Database
from recipesearch.workers.worker import Worker

MakePlan = Callable[..., Plan]
run_here = functools.partial(search.run, open_worker=Worker)


@pytest.mark.parametrize(
    ("bound", "value", "missed"),
    [
        ({"maximize": True, "bound": 0.8}, 0.7, 0.1),
        ({"maximize": True, "bound": 0.8}, 0.9, -0.1),
        ({"maximize": False, "bound": 5.0}, 7.0, 2.0),
        ({"maximize": True, "within": 0.1}, 0.7, 0.02),  # of 0.8
        ({"maximize": False, "within": 0.5}, 0.5, -0.1),  # of 0.4
        ({"maximize": True}, 0.1, None),
    ],
)
def test_a_miss_is_positive_beyond_the_bound(bound: dict[str, Any], value: float, missed: float) -> None:
    goal = Goal("goal", "task", "metric", **bound)
    assert violation(goal, value, [0.8, 0.4]) == (missed if missed is None else pytest.approx(missed))


def test_a_bound_relative_to_parents_that_are_not_scored_yet_is_none() -> None:
    assert violation(Goal("goal", "task", "metric", within=0.1), 0.1, []) is None


def bounded(make_plan: MakePlan, small_tasks: dict[str, str], **bound: float) -> Plan:
    reading = {"task": small_tasks["reading_b_search"], "metric": "exact_match", **bound}
    return make_plan(
        objectives=[{"task": small_tasks["addition_b_search"], "metric": "exact_match"}, reading],
        search={"sampler": "nsga2", "population": 6, "trials": 20, "seed": 3},
    )


def test_the_front_keeps_within_three_percent_of_the_best_parent(
    make_plan: MakePlan, small_tasks: dict[str, str]
) -> None:
    plan = bounded(make_plan, small_tasks, within=0.03)
    results = run_here(plan)
    own = {row.seed: row.values[1].value for row in results.scored if row.seed and row.values}
    floor = 0.97 * max(own["parent math"], own["parent lang"])
    kept = [row for row in results.scored if row.values and row.values[1].value >= floor]
    assert 0 < len(kept) < len(results.scored), "else the bound was not put to the test"
    assert results.eligible == kept
    assert {row.number for row in results.front} <= {row.number for row in kept}
    assert results.best(results.objectives[0]) in kept
    assert results.knee() in kept
    trials = optuna.load_study(study_name="study", storage=Database(plan.storage_url).storage).trials
    told = {t.number: [v for k, v in t.system_attrs.items() if "constraints" in k] for t in trials}
    for row in results.scored[2:]:  # after the parents themselves
        assert (told[row.number][0] <= 0) == (row in kept)


def test_a_bound_that_nothing_keeps_leaves_the_front_as_it_is(
    make_plan: MakePlan, small_tasks: dict[str, str]
) -> None:
    results = run_here(bounded(make_plan, small_tasks, bound=2.0))
    assert results.eligible == results.scored
    assert results.front


def test_a_share_of_parents_that_no_recipe_is_alone_is_refused(
    make_plan: MakePlan, small_tasks: dict[str, str]
) -> None:
    space = {"weights": {"methods": ["linear"], "weight": [0.1, 0.8]}}
    plan = bounded(make_plan, small_tasks, within=0.03)
    plan = plan.model_copy(update={"space": type(plan.space).model_validate(space)})
    with pytest.raises(PlanError, match="give a 'bound'"):
        run_here(plan)


def test_an_auto_study_keeps_the_sampler_it_began_with(make_plan: MakePlan) -> None:
    """Whatever the rule says later: another one's generations these are not."""
    space = {"weights": {"methods": ["linear"]}}
    few = {"sampler": "auto", "scalarize": [0.5, 0.5], "trials": 6, "seed": 1}
    first = run_here(make_plan(space=space, search=few))
    more = run_here(make_plan(space=space, search=few | {"trials": 8}))
    assert len(more.scored) == 8
    assert more.identity["search"]["sampler"] == first.identity["search"]["sampler"] != "auto"


def test_chebyshev_tells_the_sampler_the_worst_shortfall(make_plan: MakePlan) -> None:
    scalarize = {"kind": "chebyshev", "weights": [1.0, 2.0]}
    plan = make_plan(search={"sampler": "tpe", "scalarize": scalarize, "trials": 6, "seed": 1})
    results = run_here(plan)
    study = optuna.load_study(study_name="study", storage=Database(plan.storage_url).storage)
    for row in results.scored:
        assert row.values is not None
        short = [1.0 * (1 - row.values[0].value), 2.0 * (1 - row.values[1].value)]
        assert study.trials[row.number].value == pytest.approx(-(max(short) + 0.05 * sum(short)))

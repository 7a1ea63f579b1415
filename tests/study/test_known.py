"""Scores of other studies over the same parents are training data, as they were when a study was created."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from recipesearch.checking.preflight import preflight
from recipesearch.plan import Plan
from recipesearch.search import run as search
from recipesearch.space.coordinates import CoordinateSystem
from recipesearch.space.projection import Projection
from recipesearch.space.weights import WeightSpace
from recipesearch.study.identity import goals_of
from recipesearch.study.known import count
from recipesearch.study.results import KNOWN, Results
from recipesearch.study.storage import Database
from recipesearch.workers.instant import InstantWorker

run_here = functools.partial(search.run, open_worker=InstantWorker)
MakePlan = Callable[..., Plan]
SHARED = "sqlite:///shared.db"
SEARCH = {"sampler": "merge_gp", "trials": 12, "seed": 1}
OTHER_SPACE = {"weights": {"methods": ["linear"], "layer_groups": 4, "own": ["embed"]}}


def recorded(plan: Plan) -> dict[str, Any]:
    import optuna

    study = optuna.load_study(study_name=plan.name, storage=Database(plan.storage_url).storage)
    return dict(study.user_attrs[KNOWN])


def genomes(results: Results) -> list[dict[str, Any]]:
    return [dict(row.genome) for row in results.rows]


def test_recipes_of_another_space_are_known_from_the_start(make_paper_plan: MakePlan) -> None:
    first = run_here(make_paper_plan("first", search=SEARCH, storage=SHARED, space=OTHER_SPACE))
    second = make_paper_plan("second", search=SEARCH, storage=SHARED)
    alone = run_here(make_paper_plan("second", search=SEARCH))
    results = run_here(second)
    assert recorded(second).keys() == {row.recipe for row in first.scored}
    seeds = sum(bool(row.seed) for row in results.rows)
    assert genomes(results)[:seeds] == genomes(alone)[:seeds]
    assert genomes(results)[seeds:] != genomes(alone)[seeds:]


def test_later_scores_of_others_change_nothing(
    make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study that is cut, and goes on after another study has scored more, is the same study."""
    whole = run_here(make_paper_plan("whole", search=SEARCH))
    plan = make_paper_plan("cut", search=SEARCH, storage=SHARED)
    run_here(plan.model_copy(update={"search": plan.search.model_copy(update={"trials": 8})}))
    run_here(make_paper_plan("other", search=SEARCH, storage=SHARED, space=OTHER_SPACE))
    assert genomes(run_here(plan)) == genomes(whole)


def test_scores_of_other_tasks_engines_and_parents_are_left_out(
    make_paper_plan: MakePlan, paper_parents: dict[str, str]
) -> None:
    engine = {"dtype": "float32", "device": "cpu", "threads": 2, "batch_size": 64}
    run_here(make_paper_plan("engine", search=SEARCH, storage=SHARED, engine=engine))
    parents = {name: paper_parents[name] for name in ("math", "base")}
    run_here(make_paper_plan("parents", search=SEARCH, storage=SHARED, parents=parents))
    one = [{"task": "addition_b_search.yaml", "metric": "exact_match"}]
    run_here(make_paper_plan("tasks", search=SEARCH, storage=SHARED, objectives=one))
    plan = make_paper_plan("last", search=SEARCH, storage=SHARED)
    run_here(plan)
    assert len(recorded(plan)) == 1  # the parent in common, alone


def test_other_samplers_record_nothing(make_paper_plan: MakePlan) -> None:
    run_here(make_paper_plan("first", search=SEARCH, storage=SHARED))
    plan = make_paper_plan("second", storage=SHARED)
    run_here(plan)
    import optuna

    study = optuna.load_study(study_name=plan.name, storage=Database(plan.storage_url).storage)
    assert KNOWN not in study.user_attrs


def test_the_recipes_that_a_new_study_would_learn_from_are_counted(make_paper_plan: MakePlan) -> None:
    first = run_here(make_paper_plan("first", search=SEARCH, storage=SHARED, space=OTHER_SPACE))
    plan = make_paper_plan("second", search=SEARCH, storage=SHARED)
    space = preflight(plan).space
    assert isinstance(space, WeightSpace)
    projection, tasks = Projection(CoordinateSystem(space)), [goal.hash for goal in goals_of(first.identity)]
    assert list(count(first.database, projection, tasks, "float32", False).values()) == [len(first.scored)]
    assert count(first.database, projection, [*tasks, "another"], "float32", False) == {}
    assert count(first.database, projection, tasks, "bfloat16", False) == {}

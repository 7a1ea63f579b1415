"""One process runs a study, and a process that has lost its study cannot change it."""

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from recipesearch.errors import StudyError
from recipesearch.study.storage import METADATA, Database


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipesearch.study.runner_lock._LOOK", 0.0)


def nothing(connection: sa.Connection) -> None:
    """A write that only proves who the runner is."""


def prepared(url: str) -> Database:
    database = Database(url)
    METADATA.create_all(database.engine)
    return database


def end_locks(database: Database) -> None:
    """Ends the sessions of a server that hold advisory locks, as a restart or a firewall would."""
    with database.engine.begin() as connection:
        ended = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
        assert connection.exec_driver_sql(ended).all()


def test_a_link_to_the_database_is_the_same_database(tmp_path: Path) -> None:
    prepared(f"sqlite:///{tmp_path}/real.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    one, other = (Database(f"sqlite:///{tmp_path}/{name}.db") for name in ("real", "link"))
    with (
        one.sole_runner("study"),
        pytest.raises(StudyError, match="another process"),
        other.sole_runner("study"),
    ):
        pass


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_a_database_that_is_gone_is_noticed_at_the_next_write(tmp_path: Path, fate: str) -> None:
    database = prepared(f"sqlite:///{tmp_path}/study.db")
    with database.sole_runner("study"):
        database.write(nothing)
        shutil.copy(tmp_path / "study.db", tmp_path / "copy.db")
        (tmp_path / "study.db").unlink()
        if fate == "replaced":
            (tmp_path / "copy.db").rename(tmp_path / "study.db")
        with pytest.raises(StudyError, match="deleted or replaced"):
            database.write(nothing)


def test_a_lost_lock_is_taken_again(postgres: str) -> None:
    database, other = prepared(postgres), Database(postgres)
    with database.sole_runner("lost"):
        database.write(nothing)
        end_locks(other)
        database.write(nothing)
        with pytest.raises(StudyError, match="another process"), other.sole_runner("lost"):
            pass


def test_a_runner_whose_study_was_taken_over_cannot_write(postgres: str) -> None:
    first, second = prepared(postgres), Database(postgres)
    with first.sole_runner("taken"):
        first.write(nothing)
        end_locks(second)
        with second.sole_runner("taken"):
            second.write(nothing)
            with pytest.raises(StudyError, match="another process"):
                first.write(nothing)
        # The second runner has ended, but the first one does not know what it wrote.
        with pytest.raises(StudyError, match="another process runs study 'taken' now"):
            first.write(nothing)


def test_a_first_write_that_fails_is_repeated(database: Database) -> None:
    """The token is rolled back with the rest."""
    METADATA.create_all(database.engine)
    failures = iter([OSError("disk"), None])

    def work(connection: sa.Connection) -> None:
        if error := next(failures):
            raise error

    with database.sole_runner("study"):
        with pytest.raises(OSError, match="disk"):
            database.write(work)
        database.write(work)
        database.write(nothing)


def test_a_study_changes_hands_between_runs(database: Database) -> None:
    METADATA.create_all(database.engine)
    for _ in range(2):
        with database.sole_runner("study"):
            database.write(nothing)
            database.write(nothing)

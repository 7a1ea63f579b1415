"""A study's database, and the lock that allows one process at a time to run a study."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import StudyError

METADATA = sa.MetaData()  # all tables of recipesearch

_BUSY_SECONDS = 60
_ALIVE_SECONDS = 60  # networks drop idle connections, and the lock's connection may be idle for days
_UNREACHABLE = (sa.exc.SQLAlchemyError, OSError, ImportError)


class Database:
    """A study database by its URL (``sqlite:///FILE`` or ``postgresql+psycopg://...``), opened at first use.

    Each command opens its database once and passes the object on. SQLite uses a write-ahead log: readers
    never block the runner, and a killed process loses no committed data. A power cut may lose the last
    commits; their recipes are scored again.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def file(self) -> Path | None:
        """The database's file; None for a server."""
        prefix = "sqlite:///"
        return Path(self.url.removeprefix(prefix)) if self.url.startswith(prefix) else None

    @cached_property
    def storage(self) -> RDBStorage:
        """Optuna's storage. Raises StudyError if the database cannot be reached."""
        try:
            if self.file:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            storage = RDBStorage(self._known_url, engine_kwargs=self._arguments)
        except _UNREACHABLE as error:
            raise self._unreachable(error) from error
        if self.file:
            sa.event.listen(storage.engine, "connect", _tune_sqlite)
            storage.engine.dispose()  # connections made so far lack the settings
        return storage

    @property
    def engine(self) -> sa.Engine:
        """The connections of ``storage``, for recipesearch's own tables."""
        return self.storage.engine

    def require_studies(self, tables: Sequence[str]) -> None:
        """Raises StudyError unless the database exists and has one of ``tables``, the last ones created.

        This check creates no tables: the database may belong to another program, and a runner that is
        creating its tables at the same time would fail.
        """
        if self.file and not self.file.is_file():
            raise StudyError(f"there is no study database at {self.file} yet; run it first")
        try:
            engine = sa.create_engine(self.url)
            found = any(sa.inspect(engine).has_table(table) for table in tables)
            engine.dispose()
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            raise StudyError(
                f"{_public(self.url)} is not a readable database ({_reason(error)}); check the name"
            ) from error
        if not found:
            raise StudyError(
                f"{_public(self.url)} has no study of recipesearch yet; check the name, or run it first"
            )

    @contextmanager
    def sole_runner(self, name: str) -> Iterator[None]:
        """Locks a study for this process. The system releases the lock when the process ends.

        Raises StudyError if another process has the lock: two runners would each treat the other's running
        trial as interrupted. Uses no table.
        """
        with self._lock(name) as free:
            if not free:
                raise StudyError(
                    f"study '{name}' is being run by another process; wait for that process or stop it"
                )
            yield

    def _lock(self, name: str) -> AbstractContextManager[bool]:
        try:
            if self.file:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                return _sqlite_lock(self.file, name)
            connection = sa.create_engine(self._known_url, **self._arguments).connect()
        except _UNREACHABLE as error:
            raise self._unreachable(error) from error
        return _postgres_lock(connection, name)

    @property
    def _known_url(self) -> str:
        if not self.file and not self.url.startswith("postgresql"):
            raise StudyError(
                f"storage {_public(self.url)}: write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
            )
        return self.url

    @property
    def _arguments(self) -> dict[str, Any]:
        if self.file:
            return {"connect_args": {"timeout": _BUSY_SECONDS}}
        return {"pool_pre_ping": True, "connect_args": {"keepalives_idle": _ALIVE_SECONDS}}

    def _unreachable(self, error: Exception) -> StudyError:
        return StudyError(
            f"cannot open the study's storage {_public(self.url)}: {_reason(error)}; check the address and "
            "its server (PostgreSQL needs the extra: pip install -e '.[run,postgres]' in the checkout)"
        )


def insert_new(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that leaves an existing row of the same key unchanged."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing()


@contextmanager
def exclusive(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction, also for changes of tables, that waits for all others of its kind."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_lock_key("recipesearch"))))
        yield connection


def _tune_sqlite(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def _sqlite_lock(file: Path, name: str) -> Iterator[bool]:
    lock = Path(f"{file}-runner-{hashlib.sha256(name.encode()).hexdigest()[:8]}")
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    free = False
    try:
        free = _take(handle)
        yield free
    finally:
        if free and not file.exists():  # the run failed before it created the database
            lock.unlink(missing_ok=True)
        os.close(handle)


def _take(handle: int) -> bool:
    """Locks a file. False if another process has the lock or has just removed the file."""
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(handle).st_nlink > 0
    return False


@contextmanager
def _postgres_lock(connection: sa.Connection, name: str) -> Iterator[bool]:
    key = _lock_key(name)
    with connection.execution_options(isolation_level="AUTOCOMMIT"):
        free = bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))))
        try:
            yield free
        finally:
            if free:  # the connection returns to a pool, which would keep the lock
                with suppress(sa.exc.DBAPIError):  # a connection lost after idle hours has lost the lock too
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))


def _lock_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _public(url: str) -> str:
    """The URL without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return repr(url.rpartition("@")[2])


def _reason(error: Exception) -> str:
    """The innermost cause in one line."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]

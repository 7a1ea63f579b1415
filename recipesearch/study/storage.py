"""A study's database: its connections, and reads and writes that wait through an outage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import StudyError
from .outage import patiently
from .runner_lock import Lock, file_lock, lock_key, server_lock

METADATA = sa.MetaData()  # all tables of recipesearch but that of the runners
T = TypeVar("T")

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
        self._locks: list[Lock] = []

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
        trial as interrupted. Until the end, each ``write`` makes sure that this process is still the runner.
        """
        with ExitStack() as stack:
            try:
                lock = file_lock(self.file, name) if self.file else server_lock(self._connect, name)
                held = stack.enter_context(lock)
            except _UNREACHABLE as error:
                raise self._unreachable(error) from error
            self._locks.append(held)
            stack.callback(self._locks.remove, held)
            yield

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What ``work`` reads over a connection. Waits while the database cannot be reached."""

        def once() -> T:
            with self.engine.connect() as connection:
                if not self.file:  # saves a server two commands
                    connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                return work(connection)

        return patiently(once)

    def rows(self, query: sa.Select[Any]) -> list[Any]:
        """All rows of a query. Waits as ``read``."""
        return self.read(lambda connection: list(connection.execute(query)))

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Does ``work`` in one transaction. Waits while the database cannot be reached.

        ``work`` must be safe to repeat: a connection may be lost after the commit and before its answer.
        Raises StudyError if this process has lost the study to another one.
        """

        def once() -> T:
            with self.engine.begin() as connection:
                if self.file:  # otherwise the driver begins at the first change, after the lock was compared
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                for lock in self._locks:
                    lock.require(connection)
                done = work(connection)
            for lock in self._locks:
                lock.committed()
            return done

        return patiently(once)

    def _connect(self) -> sa.Connection:
        return sa.create_engine(self._known_url, **self._arguments).connect()

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


Insert = sqlite.Insert | postgresql.Insert


def insert_new(connection: sa.Connection, table: sa.Table) -> Insert:
    """An insert that leaves an existing row of the same key unchanged."""
    return _insert(connection, table).on_conflict_do_nothing()


def upsert(connection: sa.Connection, table: sa.Table, key: Sequence[str], columns: Sequence[str]) -> Insert:
    """An insert that gives an existing row of the same ``key`` the new values of the other ``columns``."""
    insert = _insert(connection, table)
    changed = {column: insert.excluded[column] for column in columns if column not in key}
    return insert.on_conflict_do_update(index_elements=list(key), set_=changed)


def _insert(connection: sa.Connection, table: sa.Table) -> Insert:
    return (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(table)


@contextmanager
def exclusive(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction, also for changes of tables, that waits for all others of its kind."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key("recipesearch"))))
        yield connection


def _tune_sqlite(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _public(url: str) -> str:
    """The URL without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return repr(url.rpartition("@")[2])


def _reason(error: Exception) -> str:
    """The innermost cause in one line."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]

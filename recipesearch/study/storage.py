"""Opens a study's database, and sees to it that one process at a time runs the study."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage

from ..errors import StudyError

_BUSY_SECONDS = 60
_ALIVE_SECONDS = 60  # the lock's connection says nothing for days, which networks take for its end
_TAKEN = "study '{name}' is being run by another process; wait for it, or stop it"


def open_storage(url: str) -> RDBStorage:
    """Optuna's storage at a SQLAlchemy URL (``sqlite:///FILE`` or ``postgresql+psycopg://...``).

    SQLite gets a write-ahead log: readers never block the runner, and a killed process loses nothing
    committed (a power cut may lose the last moments, which are then scored again). Raises StudyError if
    the database cannot be reached.
    """
    sqlite = url.startswith("sqlite")
    if not sqlite and not url.startswith("postgresql"):
        raise StudyError(
            f"storage {_public(url)}: write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        )
    try:
        if sqlite:
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        server = {"pool_pre_ping": True, "connect_args": {"keepalives_idle": _ALIVE_SECONDS}}
        arguments: dict[str, Any] = {"connect_args": {"timeout": _BUSY_SECONDS}} if sqlite else server
        storage = RDBStorage(url, engine_kwargs=arguments)
    except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StudyError(
            f"cannot open the study's storage {_public(url)}: {reason}; check the address and its server "
            "(PostgreSQL needs the extra: pip install -e '.[run,postgres]' in the checkout)"
        ) from error
    if sqlite:
        sa.event.listen(storage.engine, "connect", _tune_sqlite)
        storage.engine.dispose()  # connections made so far lack the settings
    return storage


def require_studies(url: str, table: str) -> None:
    """Raises StudyError unless the database is there and has ``table``, the last that a runner creates.

    Looking must create nothing: not in a foreign database, nor beside a runner that is just creating its
    tables, which would then fail.
    """
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite") and not file.is_file():
        raise StudyError(f"there is no study database at {file} yet; run it first")
    try:
        engine = sa.create_engine(url)
        found = sa.inspect(engine).has_table(table)
        engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StudyError(f"{_public(url)} is not a readable database ({reason}); check the name") from error
    if not found:
        raise StudyError(
            f"{_public(url)} holds no study of recipesearch yet; check the name, or run it first"
        )


@contextmanager
def sole_runner(storage: RDBStorage, name: str) -> Iterator[None]:
    """Holds the study for this process. The lock dies with the process, so none is ever stale.

    Raises StudyError if another process holds it: two runners would each take the other's running trial
    for one that a crash left behind.
    """
    with _lock(storage.engine, name) as free:
        if not free:
            raise StudyError(_TAKEN.format(name=name))
        yield


def require_free(url: str, name: str) -> None:
    """Raises StudyError if another process runs the study now: a look before anything costly.

    Creates nothing where there is no study yet.
    """
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite") and not file.is_file():
        return
    try:
        engine = sa.create_engine(url)
        with _lock(engine, name) as free:
            if not free:
                raise StudyError(_TAKEN.format(name=name))
        engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError):
        return  # opening the storage says it better


def _lock(engine: sa.Engine, name: str) -> AbstractContextManager[bool]:
    return _sqlite_lock(engine, name) if engine.dialect.name == "sqlite" else _postgres_lock(engine, name)


def _tune_sqlite(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def _sqlite_lock(engine: sa.Engine, name: str) -> Iterator[bool]:
    key = hashlib.sha256(name.encode()).hexdigest()[:8]
    handle = os.open(f"{engine.url.database}-runner-{key}", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


@contextmanager
def _postgres_lock(engine: sa.Engine, name: str) -> Iterator[bool]:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        free = bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))))
        try:
            yield free
        finally:
            if free:  # the connection goes back to a pool, and would keep the lock
                with suppress(sa.exc.DBAPIError):  # lost after hours of silence, and the lock with it
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))


def _public(url: str) -> str:
    """The URL without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return repr(url.rpartition("@")[2])

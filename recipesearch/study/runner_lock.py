"""The lock that allows one process at a time to run a study, and the proof that it is still held.

A lock can be lost without notice: a server ends the session that holds it, a file is deleted or replaced.
Each lock therefore leaves a token of its own in the database, and every write of the runner compares it in
the same transaction. A process that has lost its study can no longer change it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from ..errors import StudyError

_OWN_SESSION = "select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()"
_END_SESSION = """
    select pg_terminate_backend(pid, 5000) from pg_stat_activity
    where pid = :pid and backend_start = :backend_start
"""
_LOOK = 1.0  # seconds between two looks at the session that holds a lock; the token is compared every time

_RUNNERS = sa.Table(
    "recipesearch_runners",
    sa.MetaData(),  # created by a runner: a reader may lack the right to
    sa.Column("study", sa.String(512), primary_key=True),
    sa.Column("token", sa.String(32), nullable=False),
)


class Lock:
    """A held lock, and its token in the database once a first transaction is committed."""

    def __init__(self, name: str) -> None:
        self._name, self._token, self._claimed = name, uuid.uuid4().hex, False

    def require(self, connection: sa.Connection) -> None:
        """Makes sure, within a transaction, that this process is still the study's only runner.

        Raises StudyError if the lock has been lost.
        """
        self._hold()
        mine = _RUNNERS.c.study == self._name
        if self._claimed:
            token = connection.scalar(sa.select(_RUNNERS.c.token).where(mine).with_for_update())
            if token != self._token:
                raise self._lost()
            return
        _RUNNERS.create(connection, checkfirst=True)
        claim = sa.update(_RUNNERS).where(mine).values(token=self._token)
        if not connection.execute(claim).rowcount:
            connection.execute(sa.insert(_RUNNERS).values(study=self._name, token=self._token))

    def committed(self) -> None:
        """Notes that a transaction after ``require`` is committed, and with it the token."""
        self._claimed = True

    def _hold(self) -> None:
        """Takes the lock again if it was lost; raises StudyError if another process has it."""

    def _lost(self) -> StudyError:
        return StudyError(
            f"another process runs study '{self._name}' now, because this process lost its lock; this run "
            "ends, and nothing is lost"
        )


class FileLock(Lock):
    """The lock of a study in an SQLite file."""

    def __init__(self, name: str, file: Path) -> None:
        super().__init__(name)
        self._file, self._opened = file, _identity(file)

    def _hold(self) -> None:
        now = _identity(self._file)
        self._opened = self._opened or now
        if now != self._opened:
            raise StudyError(
                f"the database {self._file} was deleted or replaced during the run: scores since then are "
                "lost; restore the file, and run the same command again"
            )


class ServerLock(Lock):
    """The lock of a study on a PostgreSQL server, held by a connection of its own."""

    def __init__(self, name: str, connect: Callable[[], sa.Connection]) -> None:
        super().__init__(name)
        self._connect = connect
        self._connection = self._take()
        self._seen = time.monotonic()

    def close(self) -> None:
        """Releases the lock."""
        with suppress(sa.exc.DBAPIError):
            self._connection.close()
        self._connection.engine.dispose()

    def _take(self) -> sa.Connection:
        """A connection whose session has the lock. Raises StudyError if another session has it."""
        connection = self._connect().execution_options(isolation_level="AUTOCOMMIT")
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(lock_key(self._name)))):
            connection.engine.dispose()
            raise _taken(self._name)
        self._session = connection.execute(sa.text(_OWN_SESSION)).one()
        return connection

    def _hold(self) -> None:
        if time.monotonic() - self._seen < _LOOK:
            return
        with suppress(sa.exc.DBAPIError):  # the server has ended the session, and the lock with it
            if not self._connection.closed:
                self._connection.scalar(sa.select(1))
                self._seen = time.monotonic()
                return
        self.close()
        self._end_session()
        self._connection = self._take()

    def _end_session(self) -> None:
        """Ends our lost session, which the server may still count as alive after a cut connection."""
        connection = self._connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.text(_END_SESSION), self._session._asdict())
        connection.engine.dispose()


@contextmanager
def file_lock(file: Path, name: str) -> Iterator[Lock]:
    """Locks a study in an SQLite file, by the file's real path. Raises StudyError if the lock is taken."""
    file = Path(os.path.realpath(file))
    file.parent.mkdir(parents=True, exist_ok=True)
    path = Path(f"{file}-runner-{hashlib.sha256(name.encode()).hexdigest()[:8]}")
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    free = False
    try:
        free = _take(handle)
        if not free:
            raise _taken(name)
        yield FileLock(name, file)
    finally:
        if free and not file.exists():  # the run failed before it created the database
            path.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def server_lock(connect: Callable[[], sa.Connection], name: str) -> Iterator[Lock]:
    """Locks a study on a server. Raises StudyError if the lock is taken."""
    lock = ServerLock(name, connect)
    try:
        yield lock
    finally:
        lock.close()


def lock_key(name: str) -> int:
    """The key of PostgreSQL's advisory lock of a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _take(handle: int) -> bool:
    """Locks a file. False if another process has the lock or has just removed the file."""
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(handle).st_nlink > 0
    return False


def _identity(file: Path) -> tuple[int, int] | None:
    """The device and inode of a file; None if there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _taken(name: str) -> StudyError:
    return StudyError(f"study '{name}' is being run by another process; wait for that process or stop it")

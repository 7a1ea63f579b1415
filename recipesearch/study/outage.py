"""Waits while a database cannot be reached: a server restarts, a network is down, a file is locked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError

T = TypeVar("T")
_LOG = logging.getLogger("recipesearch")
_PATIENCE = 900.0  # seconds in all
_FIRST, _LONGEST = 0.2, 10.0  # seconds between two attempts: the first pause, doubled up to the longest
_BUSY = ("locked", "busy")  # the only passing faults of an SQLite file
_DOWN = ("08", "57P0", "53300")  # PostgreSQL's states: no connection, shutting down or starting, no slot free


def patiently(work: Callable[[], T]) -> T:
    """The result of ``work``, repeated with growing pauses while the database cannot be reached.

    Raises the last error after 15 minutes, and any other error, such as a full disk, at once.
    """
    started, pause = time.monotonic(), _FIRST
    while True:
        try:
            return work()
        except (sa.exc.DBAPIError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            if not _passing(cause) or time.monotonic() - started > _PATIENCE:
                raise
            if pause == _FIRST:
                _LOG.warning("the study's storage cannot be reached (%s); trying again", _reason(cause))
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)


def _passing(error: BaseException | None) -> bool:
    """Whether the fault may pass: a lost connection, a server that is not up, a locked file."""
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    if type(error.orig).__module__.startswith("sqlite3"):
        return any(word in str(error.orig) for word in _BUSY)
    state = getattr(error.orig, "sqlstate", None)
    lost = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) and state is None
    return error.connection_invalidated or lost or str(state).startswith(_DOWN)


def _reason(error: BaseException | None) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]

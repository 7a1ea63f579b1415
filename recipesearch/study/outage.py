"""Waits while a database cannot be reached: a server restarts, a network is down, a file is locked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

T = TypeVar("T")
_LOG = logging.getLogger("recipesearch")
_PATIENCE = 900.0  # seconds in all
_FIRST, _LONGEST = 0.2, 10.0  # seconds between two attempts: the first pause, doubled up to the longest
_BUSY = ("locked", "busy")  # the only passing faults of an SQLite file


def patiently(work: Callable[[], T]) -> T:
    """The result of ``work``, repeated with growing pauses while the database cannot be reached.

    Raises the last error after 15 minutes, and any other error at once.
    """
    started, pause = time.monotonic(), _FIRST
    while True:
        try:
            return work()
        except sa.exc.DBAPIError as error:
            if not _passing(error) or time.monotonic() - started > _PATIENCE:
                raise
            if pause == _FIRST:
                _LOG.warning("the study's storage cannot be reached (%s); trying again", _reason(error))
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)


def _passing(error: sa.exc.DBAPIError) -> bool:
    """Whether the fault may pass: a lost connection, a server that is not up, a locked file."""
    if not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.InternalError):
        return error.connection_invalidated
    if type(error.orig).__module__.startswith("sqlite3"):
        return any(word in str(error.orig) for word in _BUSY)
    return True


def _reason(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]

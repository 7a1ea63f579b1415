"""A process group for one child process: start with an order, exchange messages, end. Light."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import MachineFault
from ..files import cache_dir
from ..processes import own_mark
from .remains import MARK, drop_record, end_group, remove_stale, write_record

_GUARD = (sys.executable, "-m", "recipesearch.workers.guard")
_END_SECONDS = 20.0
_KILLED = Path("/proc/vmstat")


class Group:
    """A child process in a group of its own, which ends when this process ends, even by a kill.

    ``command`` starts the child, with a socket's file descriptor as its last argument. The first message to
    the child is ``order``. The child's output is appended to ``log``. ``environment`` has further variables.
    """

    def __init__(
        self,
        command: Sequence[str],
        order: object,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self._records = cache_dir() / "workers"
        remove_stale(self._records)
        ours, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        numbers = (lifeline, theirs.fileno())
        self._killed = _system_kills()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._log_start = stream.tell()
            self._guard = subprocess.Popen(
                [*_GUARD, *map(str, numbers), str(self._records), *command],
                pass_fds=numbers,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **(environment or {}), MARK: own_mark()},
            )
        os.close(lifeline)
        theirs.close()
        self._channel: Connection[Any, Any] = Connection(ours.detach())
        try:
            self.record()
            self.send(order)
        except BaseException:
            self.close()
            raise

    @property
    def number(self) -> int:
        """The number of the process group."""
        return self._guard.pid

    def record(self) -> None:
        """Records the group and its shared memory, so that a later process can clean up after a kill."""
        write_record(self._records, self._guard.pid)

    def send(self, message: object) -> bool:
        """Sends a message. False if the process has ended; ``receive`` then raises the cause."""
        with contextlib.suppress(OSError):
            self._channel.send(message)
            return True
        return False

    def receive(self, seconds: float, hang: str) -> Any:
        """The next message. Raises MachineFault: ``hang`` if none arrives in time, or the cause of death."""
        try:
            if self._channel.poll(seconds):
                return self._channel.recv()
        except (EOFError, OSError) as error:
            raise MachineFault(self._cause_of_death()) from error
        raise MachineFault(hang)

    def close(self) -> None:
        """Ends the process group in any state, and removes its shared memory."""
        self._channel.close()
        os.close(self._lifeline)  # the guard ends the group
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(_END_SECONDS)
        end_group(self._guard.pid)
        self._guard.wait()
        drop_record(self._records, self._guard.pid)

    def _cause_of_death(self) -> str:
        try:
            status = self._guard.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "crash: the worker closed its connection but did not end"
        number = -status if status < 0 else status - 128
        if number not in set(signal.Signals):
            return f"crash: the worker ended with exit code {status} ({self._last_log_line()})"
        name = signal.Signals(number).name
        if name == "SIGKILL" and _system_kills() > self._killed:
            return "out of memory: the system killed the worker (SIGKILL)"
        return f"crash: the worker was ended by {name} (log: {self.log})"

    def _last_log_line(self) -> str:
        lines = self.log.read_bytes()[self._log_start :].decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        return f"{last[:200]}; log: {self.log}"


def _system_kills() -> int:
    """The number of processes that Linux has killed since boot because memory ran out; 0 elsewhere."""
    with contextlib.suppress(OSError):
        for line in _KILLED.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0

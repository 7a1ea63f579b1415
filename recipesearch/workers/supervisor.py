"""The supervisor's end of a worker process: deadlines, named causes, a new process after each loss. Light."""

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
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import RecipeSearchError, StudyError, TrialFailed, WorkerLost
from ..files import cache_dir
from ..plan import Plan
from ..recipe import Parent, Recipe
from .remains import MARK, drop_record, end_group, remove_stale, supervisor_mark, write_record

if TYPE_CHECKING:
    from ..score import TaskScore
    from ..study.ledger import Seconds
    from .worker import Ready

COMMAND = (sys.executable, "-m", "recipesearch.workers.process")
_GUARD = (sys.executable, "-m", "recipesearch.workers.guard")
_START_SECONDS = 3600.0
_END_SECONDS = 20.0
_KILLED = Path("/proc/vmstat")


class Supervised:
    """A Worker in a process group of its own, started anew after each loss.

    ``command`` starts the worker process. What it prints goes to ``log``.
    """

    ready: Ready

    def __init__(self, plan: Plan, parents: Mapping[str, Parent], command: Sequence[str] = COMMAND) -> None:
        self._order = (plan, dict(parents))
        self._command, self._timeout = command, float(plan.engine.timeout)
        self._records = cache_dir() / "workers"
        self.log = cache_dir() / "logs" / f"{plan.name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        self._guard: subprocess.Popen[bytes] | None = None
        remove_stale(self._records)
        self.ready = self._start()

    def score(self, recipe: Recipe, held_out: bool = False) -> tuple[list[TaskScore], Seconds]:
        """As Worker.score, within the plan's timeout.

        Raises TrialFailed with the cause, also if the process crashes, hangs or runs out of memory; the
        next call starts another. Raises StudyError if that does not stand.
        """
        try:
            self._ask(recipe, held_out)
            answer = self._receive(self._timeout, f"hang: no score within {self._timeout:.0f} s")
        except TrialFailed:
            self.close()
            raise
        if isinstance(answer, WorkerLost):
            self.close()
        if isinstance(answer, Exception):
            raise answer
        scores, seconds = answer
        return scores, seconds

    def close(self) -> None:
        """Ends the process group, whatever state it is in, and what it holds."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        self._channel.close()
        os.close(self._lifeline)  # the guard ends the group
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(_END_SECONDS)
        end_group(guard.pid)
        guard.wait()
        drop_record(self._records, guard.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- starting

    def _start(self) -> Ready:
        ours, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        numbers = (lifeline, theirs.fileno())
        self._killed = _system_kills()
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._guard = subprocess.Popen(
                [*_GUARD, *map(str, numbers), str(self._records), *self._command],
                pass_fds=numbers,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {MARK: supervisor_mark()},
            )
        os.close(lifeline)
        theirs.close()
        self._channel: Connection[Any, Any] = Connection(ours.detach())
        try:
            write_record(self._records, self._guard.pid)
            self._send(self._order)
            ready = self._receive(_START_SECONDS, f"hang: not ready within {_START_SECONDS:.0f} s")
            if isinstance(ready, Exception):
                raise ready
            write_record(self._records, self._guard.pid)  # now with its segments
        except TrialFailed as failure:
            self.close()
            raise StudyError(f"the worker does not start: {failure}") from failure
        except BaseException:
            self.close()
            raise
        return ready  # type: ignore[no-any-return]

    def _start_again(self) -> None:
        try:
            ready = self._start()
        except RecipeSearchError as error:
            raise StudyError(f"a lost worker could not be replaced: {error}; then run again") from error
        if ready != self.ready:
            raise StudyError("a lost worker's replacement works under other conditions; run again")

    # -- asking and listening

    def _ask(self, recipe: Recipe, held_out: bool) -> None:
        if self._guard is not None:
            if self._send((recipe, held_out)):
                return
            self.close()  # it ended while it had nothing to do
        self._start_again()
        self._send((recipe, held_out))

    def _send(self, message: object) -> bool:
        """False if the worker has ended; listening to it then tells why."""
        with contextlib.suppress(OSError):
            self._channel.send(message)
            return True
        return False

    def _receive(self, seconds: float, hang: str) -> Any:
        try:
            if self._channel.poll(seconds):
                return self._channel.recv()
        except (EOFError, OSError) as error:
            raise TrialFailed(self._cause_of_death()) from error
        raise TrialFailed(hang)

    def _cause_of_death(self) -> str:
        assert self._guard is not None
        try:
            status = self._guard.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "crash: the worker hung up but did not end"
        number = -status if status < 0 else status - 128
        if number not in set(signal.Signals):
            return f"crash: the worker ended with exit code {status} ({self._last_words()})"
        name = signal.Signals(number).name
        if name == "SIGKILL" and _system_kills() > self._killed:
            return "out of memory: the system killed the worker (SIGKILL)"
        return f"crash: the worker was ended by {name} (log: {self.log})"

    def _last_words(self) -> str:
        lines = self.log.read_bytes()[self._log_start :].decode("utf-8", "replace").split("\n")
        words = next((line.strip() for line in reversed(lines) if line.strip()), "no last words")
        return f"{words[:200]}; log: {self.log}"


def _system_kills() -> int:
    """How many processes Linux has killed for want of memory since it started; 0 elsewhere."""
    with contextlib.suppress(OSError):
        for line in _KILLED.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0

"""Supervises a worker process: deadlines, named causes of failure, a new process after each loss. Light."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import MachineFault, MachineGone, RecipeSearchError, StudyError, TrialFailed, WorkerLost
from ..files import cache_dir
from ..recipe import Recipe
from ..score import Part, Seconds, TaskScore
from .group import Group
from .order import Ready, WorkerOrder

if TYPE_CHECKING:
    from ..scoring.preferences import Preferences, Wanted

COMMAND = (sys.executable, "-m", "recipesearch.workers.worker_process")
_START_SECONDS = 3600.0


class Supervised:
    """A Worker in a process group of its own, which ``with`` starts, restarted after each loss.

    ``command`` starts the worker process. Its output goes to ``log``.
    """

    ready: Ready

    def __init__(self, order: WorkerOrder, command: Sequence[str] = COMMAND) -> None:
        self._order = order
        self._command, self._timeout = command, float(order.engine.timeout)
        name = order.name if order.slot is None else f"{order.name}-{order.slot}"
        self.log = cache_dir() / "logs" / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        self._group: Group | None = None
        self._closed = False

    def score(
        self, recipe: Recipe, held_out: bool = False, part: Part | None = None
    ) -> tuple[list[TaskScore], Seconds]:
        """As Worker.score, within the engine's timeout.

        Raises MachineFault if the process crashes, hangs or runs out of memory; the next call starts another
        process. Raises MachineGone or StudyError if that process does not start.
        """
        scores, seconds = self._answer(("score", recipe, held_out, part))
        return scores, seconds

    def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Wanted) -> Preferences:
        """As Worker.mine, within the engine's timeout for each sample; errors as ``score``."""
        seconds = self._timeout * wanted.samples
        return self._answer(("mine", recipe, tasks, wanted), seconds)  # type: ignore[no-any-return]

    def forget(self, digests: Sequence[str]) -> None:
        """As Worker.forget."""
        self._answer(("forget", digests))

    def close(self) -> None:
        """Ends the process group in any state, and removes its shared memory. No other process is started."""
        self._closed = True
        self._end_group()

    def _end_group(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.close()

    def __enter__(self) -> Self:
        """Starts the process. ``close`` in another thread interrupts the start."""
        self.ready = self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- starting

    @property
    def _environment(self) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": self._order.gpus} if self._order.gpus else {}

    def _start(self) -> Ready:
        group = self._group = Group(self._command, self._order, self.log, self._environment)
        try:
            if self._closed:  # by another thread, before it could see the group
                raise MachineFault("the worker was closed while it started")
            ready = group.receive(_START_SECONDS, f"hang: not ready within {_START_SECONDS:.0f} s")
            if isinstance(ready, Exception):
                raise ready
            group.record()  # again: the started worker has shared memory
        except TrialFailed as failure:
            self._end_group()
            raise StudyError(f"the worker failed to start: {failure}") from failure
        except BaseException:
            self._end_group()
            raise
        return ready  # type: ignore[no-any-return]

    def _start_again(self) -> Group:
        try:
            ready = self._start()
        except RecipeSearchError as error:
            if isinstance(error.__cause__, MachineFault):
                raise MachineGone(f"a lost worker could not be replaced: {error}") from error
            raise StudyError(f"a lost worker could not be replaced: {error}; fix it and run again") from error
        if ready != self.ready:
            raise StudyError(
                "a lost worker's replacement reports other conditions (device, versions, tasks); run again"
            )
        assert self._group is not None
        return self._group

    # -- asking

    def _answer(self, question: tuple[Any, ...], seconds: float | None = None) -> Any:
        group = self._group
        if group is not None and not group.send(question):
            self._end_group()  # the process ended while it was idle
            group = None
        if group is None:
            group = self._start_again()
            group.send(question)
        try:
            seconds = seconds or self._timeout
            answer = group.receive(seconds, f"hang: no answer within {seconds:.0f} s")
        except TrialFailed:
            self._end_group()
            raise
        if isinstance(answer, WorkerLost):
            self._end_group()
        if isinstance(answer, Exception):
            raise answer
        return answer

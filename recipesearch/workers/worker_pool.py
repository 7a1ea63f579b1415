"""A pool of workers that score for one runner, each in a thread of its own. Light."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from ..errors import StudyError
from .order import OpenWorker, Ready, Scoring, WorkerOrder

Tag = TypeVar("Tag")
Result = TypeVar("Result")
Job = Callable[[Scoring], Result]


class WorkerPool:
    """A worker for each order. The orders are equal but for their places on the machine.

    Jobs go to idle workers and come back in the order in which they end. All calls come from one thread, so
    the caller needs no locks. Raises StudyError if the workers report different conditions.
    """

    ready: Ready

    def __init__(self, open_worker: OpenWorker, orders: Sequence[WorkerOrder]) -> None:
        self._threads = ThreadPoolExecutor(len(orders), "worker")
        self._running: dict[Future[Any], tuple[Any, Scoring, float]] = {}
        self._opened, self._spent = time.monotonic(), 0.0
        self._open = ExitStack()
        try:
            self._workers = self._started([self._threads.submit(open_worker, order) for order in orders])
            self.ready = _common(self._workers)
        except BaseException:
            self.close()
            raise
        self._idle = deque(self._workers)

    @property
    def size(self) -> int:
        """The number of workers."""
        return len(self._workers)

    @property
    def utilisation(self) -> float:
        """The share of the workers' time since the start that jobs took, 0 to 1."""
        now = time.monotonic()
        running = sum(now - begun for _, _, begun in self._running.values())
        return (self._spent + running) / max(self.size * (now - self._opened), 1e-9)

    def stream(
        self, next_job: Callable[[], tuple[Tag, Job[Result]] | None]
    ) -> Iterator[tuple[Tag, Future[Result]]]:
        """Gives each idle worker the next job, and yields the tag and the outcome of each job that ends.

        ``next_job`` returns None if there is no job now, and is asked again after each end. The stream ends
        when there is no job and none is running.
        """
        while True:
            while self._idle and (one := next_job()) is not None:
                self._submit(*one)
            if not self._running:
                return
            yield self._next()

    def all(self, jobs: Sequence[Job[Result]]) -> list[Result]:
        """The results of jobs, in the order of the jobs. Raises the error of the first job that fails."""
        waiting = iter(enumerate(jobs))
        ended = {place: done.result() for place, done in self.stream(lambda: next(waiting, None))}
        return [ended[place] for place in sorted(ended)]

    def each(self, job: Job[Any]) -> None:
        """Does a job once with each worker. No other job may be running."""
        for done in [self._threads.submit(job, worker) for worker in self._workers]:
            done.result()

    def close(self) -> None:
        """Ends all workers in any state; a job that is running is lost."""
        self._open.close()  # first, because a thread ends when its worker does
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self, starting: Sequence[Future[Scoring]]) -> list[Scoring]:
        """The started workers. Raises the first error, after all others have started or failed too."""
        wait(starting)
        workers = [self._open.enter_context(one.result()) for one in starting if not one.exception()]
        for one in starting:
            one.result()
        return workers

    def _submit(self, tag: Any, job: Job[Any]) -> None:
        worker = self._idle.popleft()
        self._running[self._threads.submit(job, worker)] = tag, worker, time.monotonic()

    def _next(self) -> tuple[Any, Future[Any]]:
        """The next job that ends; of several the one that was submitted first."""
        ended = wait(self._running, return_when=FIRST_COMPLETED).done
        done = next(one for one in self._running if one in ended)
        tag, worker, begun = self._running.pop(done)
        self._spent += time.monotonic() - begun
        self._idle.append(worker)
        return tag, done


def _common(workers: Sequence[Scoring]) -> Ready:
    """What all workers report. Raises StudyError if their conditions differ."""
    first, *others = (worker.ready for worker in workers)
    for other in others:
        if other != first:
            raise StudyError(
                "the workers report different conditions (device, versions, tasks): "
                f"{first.conditions.engine} and {other.conditions.engine}; their scores cannot be compared"
            )
    return first

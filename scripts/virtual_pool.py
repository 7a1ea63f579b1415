"""A pool of workers in virtual time: the project's runner with hundreds of workers that need no machine.

Each job is answered at once by one worker in this process, and comes back after a log-normal time on a
virtual clock. The clock also advances by the time that the runner really takes for its own work between two
jobs, so that a runner which cannot keep up shows.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self
from unittest import mock

import numpy as np

from recipesearch.workers.order import OpenWorker, WorkerOrder


class VirtualPool:
    """Workers whose jobs take ``seconds`` in the median, log-normal with the spread ``sigma``.

    Has the interface of WorkerPool. ``now`` is the virtual time, and ``runner`` the seconds that the runner
    took for its own work.
    """

    def __init__(self, worker: Any, workers: int, seconds: float, sigma: float, seed: int) -> None:
        self._worker, self.size, self.ready = worker, workers, worker.ready
        self._median, self._sigma, self._chance = seconds, sigma, np.random.default_rng(seed)
        self.now = self._spent = self.runner = 0.0
        self._running: list[tuple[float, int, Any, Future[Any]]] = []
        self._numbers = itertools.count()

    @property
    def utilisation(self) -> float:
        """The share of the workers' virtual time that jobs took."""
        return self._spent / max(self.size * self.now, 1e-9)

    def stream(self, next_job: Callable[[], Any]) -> Iterator[tuple[Any, Future[Any]]]:
        """As WorkerPool.stream."""
        while True:
            begun = time.perf_counter()
            while len(self._running) < self.size and (one := next_job()) is not None:
                self._work_since(begun)
                self._submit(*one)
                begun = time.perf_counter()
            self._work_since(begun)
            if not self._running:
                return
            end, _, tag, done = heapq.heappop(self._running)
            self.now = max(self.now, end)
            begun = time.perf_counter()
            yield tag, done
            self._work_since(begun)

    def all(self, jobs: Sequence[Callable[[Any], Any]]) -> list[Any]:
        """As WorkerPool.all."""
        return [job(self._worker) for job in jobs]

    def each(self, job: Callable[[Any], Any]) -> None:
        """As WorkerPool.each."""
        job(self._worker)

    def _work_since(self, begun: float) -> None:
        seconds = time.perf_counter() - begun
        self.now, self.runner = self.now + seconds, self.runner + seconds

    def _submit(self, tag: Any, job: Callable[[Any], Any]) -> None:
        done: Future[Any] = Future()
        try:
            done.set_result(job(self._worker))
        except Exception as error:  # the runner handles it, as the error of a real worker
            done.set_exception(error)
        seconds = self._median * float(np.exp(self._sigma * self._chance.normal()))
        self._spent += seconds
        heapq.heappush(self._running, (self.now + seconds, next(self._numbers), tag, done))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def virtual(
    workers: int,
    seconds: float = 60.0,
    sigma: float = 0.5,
    seed: int = 0,
    opened: list[VirtualPool] | None = None,
) -> AbstractContextManager[Any]:
    """Lets ``search.run`` use virtual pools, which are appended to ``opened``."""

    def open_pool(open_worker: OpenWorker, order: WorkerOrder) -> VirtualPool:
        pool = VirtualPool(open_worker(order), workers, seconds, sigma, seed)
        (opened if opened is not None else []).append(pool)
        return pool

    return mock.patch("recipesearch.search.run.open_pool", open_pool)

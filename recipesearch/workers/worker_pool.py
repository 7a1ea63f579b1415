"""A pool of workers that score for one runner, each in a thread of its own. Light."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from ..errors import MachineGone, RecipeSearchError, StudyError
from .order import Cluster, OpenWorker, Ready, Scoring, WorkerOrder
from .slots import slots

Tag = TypeVar("Tag")
Result = TypeVar("Result")
Job = Callable[[Scoring], Result]
_LOG = logging.getLogger("recipesearch")
_LOOK = 5.0  # seconds after which a waiting pool looks again for workers to start
_TRIES = 3  # starts of a worker; workers that one job may lose
_MOST = 4096  # threads; each is made when it is first needed


@dataclass(frozen=True)
class _Place:
    """A worker's slot, and the time at which the worker had started."""

    slot: int
    since: float


@dataclass
class _Running:
    """A job on its worker, the times of its start and its end, and how many workers it has lost before."""

    tag: Any
    job: Job[Any]
    losses: int
    worker: Scoring
    begun: float
    ended: float | None = None

    def do(self) -> Any:
        try:
            return self.job(self.worker)
        finally:
            self.ended = time.monotonic()

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.begun


class WorkerPool:
    """Workers for the orders that ``wanted`` returns, which are equal but for their slots.

    Jobs go to idle workers and come back in the order in which they end. The pool is open once one worker is;
    others join when they have started, and when ``wanted`` returns further slots. The job of a worker that is
    lost for good goes to another worker, at most twice. A worker that does not start is tried again a few
    times, and done without if others are there. All calls come from one thread, so the caller needs no locks.

    Raises StudyError if the workers report different conditions or all are lost, and the error of a last
    worker that did not start.
    """

    ready: Ready

    def __init__(self, open_worker: OpenWorker, wanted: Callable[[], Sequence[WorkerOrder]]) -> None:
        self._open_worker, self._wanted = open_worker, wanted
        self._threads = ThreadPoolExecutor(_MOST, "worker")
        self._starting: dict[Future[Any], tuple[int, Scoring]] = {}
        self._workers: dict[Scoring, _Place] = {}
        self._idle, self._waiting = deque[Scoring](), deque[tuple[Any, Job[Any], int]]()
        self._running: dict[Future[Any], _Running] = {}
        self._open = ExitStack()
        self._next_look = 0.0
        self._failures = Counter[int]()  # starts that failed, by slot
        self._spent = self._gone = 0.0  # seconds of ended jobs, and of workers that are lost
        try:
            while not self._workers:
                self._start()
                self._join(self._wait())
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """The number of started workers."""
        return len(self._workers)

    @property
    def utilisation(self) -> float:
        """The share of the workers' time since their starts that jobs took, 0 to 1."""
        now = time.monotonic()
        running = sum(one.seconds for one in self._running.values())
        open_for = self._gone + sum(now - place.since for place in self._workers.values())
        return (self._spent + running) / max(open_for, 1e-9)

    def stream(
        self, next_job: Callable[[], tuple[Tag, Job[Result]] | None]
    ) -> Iterator[tuple[Tag, Future[Result]]]:
        """Gives each idle worker the next job, and yields the tag and the outcome of each job that ends.

        ``next_job`` returns None if there is no job now, and is asked again after each end and for each new
        worker. The stream ends when there is no job and none is running.
        """
        may_ask = True
        while True:
            while self._idle and self._waiting:
                self._submit(*self._waiting.popleft())
            while self._idle and may_ask:
                if may_ask := (one := next_job()) is not None:
                    self._submit(*one)
            if not self._running and not self._waiting:
                return
            self._start()
            ended = self._wait()
            may_ask = self._join(ended) or may_ask
            for done in [one for one in self._running if one in ended]:
                may_ask = True
                if found := self._ended(done):
                    yield found

    def all(self, jobs: Sequence[Job[Result]]) -> list[Result]:
        """The results of jobs, in the order of the jobs. Raises the error of the first job that fails."""
        waiting = iter(enumerate(jobs))
        ended = {place: done.result() for place, done in self.stream(lambda: next(waiting, None))}
        return [ended[place] for place in sorted(ended)]

    def each(self, job: Job[Any]) -> None:
        """Does a job once with each worker that is not lost. No other job may be running."""
        for done in [self._threads.submit(job, worker) for worker in self._workers]:
            with suppress(MachineGone):
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

    # -- workers

    def _start(self) -> None:
        """Starts the workers that are wanted and neither started nor starting.

        Asks for them at intervals, since a cluster takes a while to answer, and after each loss.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK
        taken = {slot for slot, _ in self._starting.values()}
        taken |= {place.slot for place in self._workers.values()}
        for slot, order in enumerate(self._wanted()):
            if slot in taken or self._failures[slot] >= _TRIES:
                continue
            try:
                worker = self._open_worker(order)
            except RecipeSearchError as error:
                self._do_without(slot, error)
                continue
            self._open.push(worker)  # ends the worker in any state, even while it starts
            self._starting[self._threads.submit(worker.__enter__)] = slot, worker

    def _join(self, ended: set[Future[Any]]) -> bool:
        """Takes the workers that have started; returns whether any has."""
        joined = False
        for started in [one for one in self._starting if one in ended]:
            slot, worker = self._starting.pop(started)
            try:
                started.result()
            except RecipeSearchError as error:
                worker.__exit__(None, None, None)
                self._do_without(slot, error)
                continue
            if self._workers and worker.ready != self.ready:
                raise StudyError(
                    "the workers report different conditions (device, versions, tasks), and their scores "
                    f"cannot be compared: {self.ready.conditions.engine}; {worker.ready.conditions.engine}"
                )
            self.ready = worker.ready
            self._workers[worker] = _Place(slot, time.monotonic())
            self._failures[slot], joined = 0, True
            self._idle.append(worker)
        return joined

    def _do_without(self, slot: int, error: RecipeSearchError) -> None:
        """Counts a worker that did not start. Raises the error if there is no other worker."""
        self._failures[slot], self._next_look = self._failures[slot] + 1, 0.0
        if not (self._workers or self._starting):
            raise error
        _LOG.warning("worker %d did not start: %s", slot, error)

    # -- jobs

    def _submit(self, tag: Any, job: Job[Any], losses: int = 0) -> None:
        running = _Running(tag, job, losses, self._idle.popleft(), time.monotonic())
        self._running[self._threads.submit(running.do)] = running

    def _wait(self) -> set[Future[Any]]:
        """The jobs and the starts of workers that have ended; waits for one, but not for ever.

        Raises StudyError if there is nothing to wait for: all workers are lost, and none starts.
        """
        if not (self._running or self._starting):
            raise StudyError("all workers are lost, and no other one starts; the log has the causes")
        return wait({*self._running, *self._starting}, _LOOK, FIRST_COMPLETED).done

    def _ended(self, done: Future[Any]) -> tuple[Any, Future[Any]] | None:
        """The tag and the outcome of a job that has ended; None if another worker has to do the job."""
        running = self._running.pop(done)
        self._spent += running.seconds
        lost = done.exception()
        if not isinstance(lost, MachineGone):
            self._idle.append(running.worker)
            return running.tag, done
        self._gone += time.monotonic() - self._workers.pop(running.worker).since
        running.worker.__exit__(None, None, None)
        self._next_look = 0.0
        if running.losses + 1 >= _TRIES:  # the job may be what costs the machines
            return running.tag, done
        _LOG.warning("%s; another worker takes its job", lost)
        self._waiting.append((running.tag, running.job, running.losses + 1))
        return None


def open_pool(open_worker: OpenWorker, order: WorkerOrder) -> WorkerPool:
    """A pool of workers for an order: on this machine, or on the machines of a cluster, which may change."""
    if isinstance(open_worker, Cluster):
        return WorkerPool(open_worker, partial(open_worker.slots, order))
    here = slots(order)
    return WorkerPool(open_worker, lambda: here)

"""A pool gives each idle worker the next job, and returns jobs in the order in which they end."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self

import pytest

from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import worker_order
from recipesearch.errors import MachineGone, StudyError, TrialFailed
from recipesearch.plan import Plan
from recipesearch.workers import slots as slots_module
from recipesearch.workers.instant import InstantWorker
from recipesearch.workers.order import WorkerOrder
from recipesearch.workers.slots import slots
from recipesearch.workers.worker_pool import WorkerPool


@pytest.fixture
def order(make_paper_plan: Callable[..., Plan]) -> WorkerOrder:
    return worker_order(preflight(make_paper_plan()))


def pool_of(count: int, order: WorkerOrder, open_worker: Callable[..., Any] = InstantWorker) -> WorkerPool:
    orders = [replace(order, slot=slot) for slot in range(count)]
    return WorkerPool(open_worker, lambda: orders)


def test_jobs_run_at_the_same_time_and_come_back_as_they_end(order: WorkerOrder) -> None:
    gates = [threading.Event() for _ in range(3)]
    all_run = threading.Barrier(3)

    def job(number: int) -> Callable[[Any], int]:
        def wait(worker: Any) -> int:
            all_run.wait(10)
            gates[number].wait(10)
            return number

        return wait

    jobs, found = iter([(number, job(number)) for number in range(3)]), []
    gates[2].set()
    with pool_of(3, order) as pool:
        for tag, done in pool.stream(lambda: next(jobs, None)):
            found.append((tag, done.result()))
            gates[len(found) - 1].set()
    assert found == [(2, 2), (0, 0), (1, 1)]


def test_a_stream_asks_again_after_each_end(order: WorkerOrder) -> None:
    """What there is to do may follow from what has ended."""
    ended: list[int] = []

    def next_job() -> Any:
        asked = len(ended)
        return None if asked == 3 or running else (running.append(asked) or asked, lambda worker: asked)

    running: list[int] = []
    with pool_of(2, order) as pool:
        for tag, done in pool.stream(next_job):
            running.clear()
            ended.append(done.result())
            assert tag == ended[-1]
    assert ended == [0, 1, 2]


def test_results_of_all_jobs_come_in_their_order(order: WorkerOrder) -> None:
    with pool_of(4, order) as pool:
        assert pool.all([lambda worker, n=n: n for n in range(20)]) == list(range(20))  # type: ignore[misc]
        with pytest.raises(TrialFailed):
            pool.all([lambda worker: (_ for _ in ()).throw(TrialFailed("broken"))])


def test_each_worker_does_a_job_once(order: WorkerOrder) -> None:
    with pool_of(3, order) as pool:
        pool.all([lambda worker: time.sleep(0.05)] * 9)  # until all have started
        seen: list[Any] = []
        pool.each(seen.append)
        assert len(set(map(id, seen))) == len(seen) == pool.size == 3


def never(order: WorkerOrder) -> Any:
    raise StudyError("no memory")


class Starting(InstantWorker):
    """Worker 1 starts at its third try, worker 2 never."""

    tries: ClassVar[Counter[int | None]]

    def __init__(self, order: WorkerOrder) -> None:
        super().__init__(order)
        self._slot = order.slot

    def __enter__(self) -> Self:
        self.tries[self._slot] += 1
        if self._slot == 2 or (self._slot == 1 and self.tries[1] < 3):
            raise StudyError("killed")
        return self


def test_workers_that_do_not_start_are_done_without(
    order: WorkerOrder, caplog: pytest.LogCaptureFixture
) -> None:
    kind = type("Starting", (Starting,), {"tries": Counter()})
    with pool_of(3, order, kind) as pool:
        pool.all([lambda worker: time.sleep(0.02)] * 30)
        assert pool.size == 2
    assert kind.tries == {0: 1, 1: 3, 2: 3}
    assert "worker 2 did not start: killed" in caplog.text


def test_the_last_worker_that_does_not_start_says_why(order: WorkerOrder) -> None:
    for count in (1, 3):
        with pytest.raises(StudyError, match="no memory"):
            pool_of(count, order, never)


def test_workers_under_different_conditions_are_refused(order: WorkerOrder) -> None:
    class Unlike(InstantWorker):
        def __init__(self, order: WorkerOrder) -> None:
            super().__init__(order)
            conditions = replace(self.ready.conditions, gpu=f"GPU {order.slot}")
            self.ready = replace(self.ready, conditions=conditions)

    with pytest.raises(StudyError, match="different conditions"), pool_of(2, order, Unlike) as pool:
        pool.all([lambda worker: time.sleep(0.05)] * 9)


def test_a_closed_pool_does_not_wait_for_workers_that_start(
    order: WorkerOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while models load."""
    ended = threading.Event()

    class Loading(InstantWorker):
        def __enter__(self) -> Self:
            ended.wait(30)
            raise StudyError("closed while it started")

        def __exit__(self, *error: Any) -> None:
            ended.set()

    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    begun = time.monotonic()
    monkeypatch.setattr(WorkerPool, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool_of(2, order, Loading)
    assert time.monotonic() - begun < 20


def test_the_job_of_a_lost_machine_goes_to_another_worker(order: WorkerOrder) -> None:
    opened: list[int | None] = []

    class Counted(InstantWorker):
        def __init__(self, order: WorkerOrder) -> None:
            super().__init__(order)
            opened.append(order.slot)
            self.number = len(opened)

    def job(worker: Any) -> int:
        time.sleep(0.02)
        if worker.number == 2:
            raise MachineGone("node 2 is lost")
        return int(worker.number)

    with pool_of(2, order, Counted) as pool:
        found = pool.all([job] * 12)
        assert len(found) == 12
        assert 2 not in found
        assert opened == [0, 1, 1], "the slot is filled again"


def test_a_job_that_costs_its_machine_again_and_again_fails(order: WorkerOrder) -> None:
    opened, closed = Counter[str](), Counter[str]()

    class Counted(InstantWorker):
        def __init__(self, order: WorkerOrder) -> None:
            super().__init__(order)
            opened["workers"] += 1

        def __exit__(self, *error: Any) -> None:
            closed[str(id(self))] += 1

    def job(worker: Any) -> None:
        raise MachineGone("out of memory on the host")

    with pool_of(1, order, Counted) as pool, pytest.raises(MachineGone, match="out of memory"):
        pool.all([job])
    assert opened["workers"] == 3
    assert len(closed) == 3, "a lost worker is closed, so its place is free"


def test_a_pool_whose_workers_are_all_lost_ends(order: WorkerOrder) -> None:
    places = [replace(order, slot=0)]

    def job(worker: Any) -> None:
        places.clear()
        raise MachineGone("the last node")

    with WorkerPool(InstantWorker, lambda: places) as pool, pytest.raises(StudyError, match="all workers"):
        pool.all([job])


def test_jobs_are_not_asked_for_while_nothing_ends(
    order: WorkerOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there is to do next may cost seconds to find."""
    monkeypatch.setattr("recipesearch.workers.worker_pool._LOOK", 0.01)
    asked: list[int] = []

    def next_job() -> Any:
        asked.append(1)
        return (0, lambda worker: time.sleep(0.3)) if len(asked) == 1 else None

    with pool_of(2, order) as pool:
        pool.all([lambda worker: time.sleep(0.02)] * 4)  # both have started
        assert len(list(pool.stream(next_job))) == 1
    assert len(asked) == 3


def test_workers_join_while_jobs_run(order: WorkerOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipesearch.workers.worker_pool._LOOK", 0.01)
    places = [replace(order, slot=0)]
    with WorkerPool(InstantWorker, lambda: places) as pool:
        assert pool.size == 1
        places.append(replace(order, slot=1))
        found = pool.all([lambda worker: (time.sleep(0.02), id(worker))[1]] * 12)
        assert pool.size == len(set(found)) == 2


def test_the_share_of_time_that_jobs_take(order: WorkerOrder) -> None:
    with pool_of(2, order) as pool:
        assert pool.utilisation < 0.1
        pool.all([lambda worker: threading.Event().wait(0.2)] * 4)
        assert 0.3 < pool.utilisation <= 1.0


def cut(order: WorkerOrder, **engine: Any) -> WorkerOrder:
    return replace(order, engine=order.engine.model_copy(update=engine))


def test_workers_on_cpus_share_the_threads(order: WorkerOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "cores", lambda: 12)
    assert slots(order) == [order]
    shared = slots(cut(order, workers=4, threads=None))
    assert [(one.slot, one.engine.threads) for one in shared] == [(slot, 3) for slot in range(4)]
    assert [one.engine.threads for one in slots(cut(order, workers=2, threads=1))] == [1, 1]


def test_each_worker_has_gpus_of_its_own(order: WorkerOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("recipesearch.workers.slots", "recipesearch.parents.memory"):
        monkeypatch.setattr(f"{module}.visible_gpus", lambda: ["0", "3", "5", "6", "7"])
    two = cut(order, kind="vllm", device="cuda", workers="auto", options={"tensor_parallel_size": 2})
    assert [(one.slot, one.gpus) for one in slots(two)] == [(0, "0,3"), (1, "5,6")]
    assert [one.gpus for one in slots(cut(two, options={}))] == ["0", "3", "5", "6", "7"]

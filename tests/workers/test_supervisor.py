"""Supervised: what befalls a worker is one candidate's failure, with its cause, and leaves nothing behind."""

import json
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Supervising, alive, light_order, living, within

from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import worker_order
from recipesearch.errors import (
    MachineFault,
    MachineGone,
    PlanError,
    RefusedInput,
    StudyError,
    TrialFailed,
    WorkerLost,
)
from recipesearch.plan import Plan
from recipesearch.workers import group, supervisor
from recipesearch.workers.supervisor import Supervised

OpenWorker = Callable[..., Supervised]


def tell(worker: Supervised, told: str, held_out: bool = False) -> tuple[Any, int]:
    """What a stand-in did, and its number."""
    told_as_recipe: Any = told
    (done,), process = worker.score(told_as_recipe, held_out)
    number: Any = process
    return done, number


def fail(worker: Supervised, told: str) -> TrialFailed:
    """How a stand-in failed."""
    with pytest.raises(TrialFailed) as failure:
        tell(worker, told)
    return failure.value


def group_of(worker: Supervised) -> int:
    return os.getpgid(tell(worker, "score")[1])


# -- an end is a failed candidate with a cause, and another process


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGTERM"])
def test_a_signal_is_named_and_the_next_candidate_has_a_new_process(worker: Supervised, name: str) -> None:
    _, first = tell(worker, "score")
    group = os.getpgid(first)
    failure = fail(worker, f"signal {name}")
    assert type(failure) is MachineFault
    assert str(failure).startswith(f"crash: the worker was ended by {name} (log: /")
    assert living(group) == []
    done, second = tell(worker, "score")
    assert done == "score"
    assert second != first


@pytest.mark.parametrize("code", [0, 3, 128, 255])
def test_an_exit_code_comes_with_the_last_words_and_the_log(worker: Supervised, code: int) -> None:
    """Also codes above 128 that are no signal's."""
    failure = fail(worker, f"exit {code}")
    assert type(failure) is MachineFault
    words = f"exit code {code} (the last words; log: {worker.log})"
    assert str(failure) == f"crash: the worker ended with {words}"
    assert worker.log.read_text() == "some words\nthe last words\n\n"


def test_a_silent_end_is_not_explained_by_another_workers_words(worker: Supervised) -> None:
    fail(worker, "exit 3")
    assert str(fail(worker, "silently 4")).startswith("crash: the worker ended with exit code 4 (no output")


def test_a_kill_by_a_system_out_of_memory_is_named_so(
    worker: Supervised, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Told from another SIGKILL by the system's count of such kills."""
    counter = tmp_path / "vmstat"
    monkeypatch.setattr(group, "_KILLED", counter)
    for before, after, cause in ((4, 5, "out of memory"), (5, 5, "crash")):
        counter.write_text(f"nr_free_pages 9\noom_kill {before}\n")
        fail(worker, "exit 1")
        tell(worker, "score")  # this process started with the count as it is now
        counter.write_text(f"nr_free_pages 9\noom_kill {after}\n")
        failure = fail(worker, "signal SIGKILL")
        assert type(failure) is MachineFault
        assert str(failure).startswith(cause)
        assert "SIGKILL" in str(failure)


def test_a_crashed_workers_shared_memory_goes(
    open_worker: OpenWorker, at_start: Callable[[str], object]
) -> None:
    """When the crash is noticed, nobody can look any more what the worker had mapped."""
    at_start("map")
    worker = open_worker()
    segment = Path(str(worker.ready))
    assert segment.exists()
    fail(worker, "signal SIGSEGV")
    assert not segment.exists()


# -- a hang


def test_a_hang_ends_in_time_with_its_whole_group(open_worker: OpenWorker) -> None:
    """Also a child, and one that ignores SIGTERM; also what they had mapped."""
    worker = open_worker(timeout=1)
    group = group_of(worker)
    children, _ = tell(worker, "children")
    path, _ = tell(worker, "map")
    assert set(children) < set(living(group))
    begun = time.monotonic()
    failure = fail(worker, "signal SIGSTOP")
    assert (type(failure), str(failure)) == (MachineFault, "hang: no answer within 1 s")
    assert time.monotonic() - begun < 5
    assert living(group) == []
    assert not any(alive(child) for child in children)
    assert not Path(path).exists()
    assert os.getpgid(tell(worker, "score")[1]) != group


def test_children_do_not_outlive_a_worker_that_crashed(worker: Supervised) -> None:
    children, _ = tell(worker, "children")
    fail(worker, "signal SIGSEGV")
    assert not any(alive(child) for child in children)


# -- what is not a candidate's fault


def test_a_worker_that_ends_while_idle_is_replaced_and_no_candidate_blamed(worker: Supervised) -> None:
    _, first = tell(worker, "score")
    os.kill(first, signal.SIGKILL)
    assert within(5, lambda: not alive(first))
    done, second = tell(worker, "score")
    assert done == "score"
    assert second != first


def test_a_worker_that_ends_as_soon_as_it_stands_costs_one_candidate_each(
    worker: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a traceback of the supervisor's."""
    start = worker._start

    def standing_for_a_moment() -> Any:
        ready = start()
        assert worker._group is not None
        os.killpg(worker._group.number, signal.SIGKILL)
        worker._group._guard.wait()
        return ready

    monkeypatch.setattr(worker, "_start", standing_for_a_moment)
    fail(worker, "signal SIGSEGV")
    assert "crash" in str(fail(worker, "score"))


def test_the_kind_of_failure_decides_whether_the_process_stays(worker: Supervised) -> None:
    """It stays after TrialFailed and StudyError, and goes after WorkerLost; each arrives as it is."""
    _, first = tell(worker, "score")
    failure = fail(worker, "raise TrialFailed non-finite: NaN")
    assert (type(failure), str(failure)) == (TrialFailed, "non-finite: NaN")
    with pytest.raises(StudyError, match=r"^the canary$"):
        tell(worker, "raise StudyError the canary")
    assert tell(worker, "score")[1] == first
    for kind in (WorkerLost, MachineFault):
        lost = fail(worker, f"raise {kind.__name__} RuntimeError: boom")
        assert (type(lost), str(lost)) == (kind, "RuntimeError: boom")
        assert not alive(first)
        _, second = tell(worker, "score")
        assert second != first
        first = second


# -- starting


@pytest.mark.parametrize("kind", [PlanError, RefusedInput, StudyError])
def test_what_keeps_a_worker_from_standing_arrives_as_it_is(
    open_worker: OpenWorker, at_start: Callable[[str], object], records: Path, kind: type[Exception]
) -> None:
    at_start(f"raise {kind.__name__} no metric 'acc'; did you mean 'f1'?")
    with pytest.raises(kind, match=r"^no metric 'acc'; did you mean 'f1'\?$"):
        open_worker()
    assert list(records.iterdir()) == []


@pytest.mark.parametrize(
    ("end", "cause"), [("exit 3", r"exit code 3 \(the last words"), ("signal SIGSEGV", "ended by SIGSEGV")]
)
def test_a_crash_while_starting_stops_the_study(
    open_worker: OpenWorker, at_start: Callable[[str], object], end: str, cause: str
) -> None:
    at_start(end)
    with pytest.raises(StudyError, match=f"^the worker failed to start: crash: .*{cause}"):
        open_worker()


def test_a_worker_that_never_stands_stops_the_study(
    open_worker: OpenWorker, at_start: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_START_SECONDS", 1.0)
    at_start("signal SIGSTOP")
    with pytest.raises(StudyError, match="failed to start: hang: not ready within 1 s"):
        open_worker()


def test_a_worker_that_ends_before_it_has_its_order_stops_the_study(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it ends before or after the supervisor writes to it is chance."""
    write_record = group.write_record

    def slowly(records: Path, group: int) -> None:
        assert within(10, lambda: living(group) == [])
        write_record(records, group)

    monkeypatch.setattr(group, "write_record", slowly)
    with pytest.raises(StudyError, match="failed to start: crash: the worker ended with exit code 1"):
        Supervised(light_order(), ["/bin/false"]).__enter__()


def test_a_replacement_that_crashes_leaves_the_candidate_to_another_worker(
    worker: Supervised, at_start: Callable[[str], object]
) -> None:
    fail(worker, "signal SIGSEGV")
    at_start("exit 3")
    with pytest.raises(MachineGone, match=r"a lost worker could not be replaced.*exit code 3"):
        tell(worker, "score")


@pytest.mark.parametrize("end", ["raise RefusedInput no room", "other conditions"])
def test_a_replacement_that_does_not_stand_as_the_first_did_stops_the_study(
    worker: Supervised, at_start: Callable[[str], object], end: str
) -> None:
    fail(worker, "signal SIGSEGV")
    at_start(end)
    with pytest.raises(StudyError, match=r"a lost worker.*run again$"):
        tell(worker, "score")


def test_the_order_crosses_whole(
    make_plan: Callable[..., Plan],
    small_tasks: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    stand_in: list[str],
    tmp_path: Path,
) -> None:
    """The engine, the goals and the parents, with what their equality leaves out."""
    engine = {"dtype": "float32", "device": "cpu", "threads": 1, "timeout": 77}
    held_out = [small_tasks["addition_b_held_out"], small_tasks["reading_b_held_out"]]
    order = worker_order(preflight(make_plan(engine=engine, held_out=held_out)))
    monkeypatch.setenv("RECIPESEARCH_CACHE", str(tmp_path / "cache"))
    with Supervised(order, stand_in):
        arrived = pickle.loads((tmp_path / "order").read_bytes())
    assert arrived == order
    assert arrived.engine.timeout == 77
    assert len(arrived.held_out) == 2
    for one, other in zip((*arrived.parents, arrived.donor), (*order.parents, order.donor), strict=True):
        assert vars(one) == vars(other)


# -- the end of the supervisor


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C works, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_exception_in_the_block_ends_the_group(open_worker: OpenWorker, records: Path) -> None:
    """Here Ctrl-C, while a candidate is scored."""
    worker = open_worker()
    group = group_of(worker)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), worker:
        tell(worker, "signal SIGSTOP")
    assert living(group) == []
    assert list(records.iterdir()) == []


def test_a_killed_supervisor_leaves_nothing(
    supervise: Callable[[], Supervising], at_start: Callable[[str], object], records: Path
) -> None:
    """Whether or not the worker, which sees it too, ends before the guard has looked what it holds."""
    at_start("map")
    supervising = supervise()
    worker, _ = supervising.tell("children")
    group = os.getpgid(worker)
    (segment,) = json.loads((records / f"{group}.json").read_text())["segments"]
    assert Path(segment).exists()
    assert len(living(group)) >= 4  # the guard, the worker and its two children
    supervising.process.kill()
    assert within(5, lambda: not living(group))
    assert not Path(segment).exists()
    assert list(records.iterdir()) == []


def test_a_supervisor_killed_while_its_worker_starts_leaves_nothing(
    supervise: Callable[[], Supervising], at_start: Callable[[str], object], records: Path, tmp_path: Path
) -> None:
    at_start("signal SIGSTOP")
    supervising = supervise()
    assert within(20, (tmp_path / "order").exists)
    (record,) = records.glob("*.json")
    assert len(living(int(record.stem))) == 2
    supervising.process.kill()
    assert within(5, lambda: not living(int(record.stem)))


@pytest.mark.parametrize("whole_group", [True, False])
def test_the_next_start_removes_what_is_left_when_the_guard_is_killed_with_its_supervisor(
    supervise: Callable[[], Supervising],
    at_start: Callable[[str], object],
    open_worker: OpenWorker,
    records: Path,
    whole_group: bool,
) -> None:
    at_start("map")
    supervising = supervise()
    worker, children = supervising.tell("children")
    (record,) = records.glob("*.json")
    group, (segment,) = int(record.stem), json.loads(record.read_text())["segments"]
    os.kill(group, signal.SIGSTOP)  # so that the guard does nothing in the moment that it has
    supervising.process.kill()
    supervising.process.wait()
    (os.killpg if whole_group else os.kill)(group, signal.SIGKILL)
    assert within(5, lambda: not alive(worker)), "the worker never stays"
    assert whole_group or set(json.loads(children)) <= set(living(group))
    assert Path(segment).exists()
    open_worker()
    assert living(group) == []
    assert not Path(segment).exists()
    assert not record.exists()
    assert len(list(records.glob("*.json"))) == 1


def test_two_studies_at_a_time_leave_each_other_alone(open_worker: OpenWorker) -> None:
    one = open_worker()
    _, process = tell(one, "score")
    other = open_worker()
    fail(other, "signal SIGSEGV")
    other.close()
    assert tell(one, "score")[1] == process


def test_a_killed_guard_takes_the_worker_with_it(
    open_worker: OpenWorker, at_start: Callable[[str], object]
) -> None:
    """And the supervisor sees to the rest."""
    at_start("map")
    worker = open_worker()
    children, process = tell(worker, "children")
    group = os.getpgid(process)
    threading.Timer(0.3, os.kill, (group, signal.SIGKILL)).start()
    assert str(fail(worker, "signal SIGSTOP")).startswith("crash: the worker was ended by SIGKILL")
    assert living(group) == []
    assert not any(alive(child) for child in children)
    assert not Path(str(worker.ready)).exists()


def test_ctrl_c_does_not_reach_the_worker(supervise: Callable[[], Supervising]) -> None:
    """The terminal sends it to the whole group; what becomes of the worker is the supervisor's decision."""
    supervising = supervise()
    worker, _ = supervising.tell("score")
    os.killpg(supervising.process.pid, signal.SIGINT)
    assert supervising.tell("score") == (worker, "score")
    assert os.getsid(worker) != os.getsid(supervising.process.pid)

"""The worker process's own side of the protocol, with a light Worker in it."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import alive, light_order, within

from recipesearch import errors
from recipesearch.workers.supervisor import Supervised

# A Worker that raises what the recipe says, and notes that it was closed.
LIGHT_WORKER = """
import os, sys
from pathlib import Path
from recipesearch import errors
from recipesearch.workers import worker_process

class Light:
    ready = "its conditions"

    def __init__(self, order):
        {at_start}

    def score(self, recipe, held_out, part):
        if recipe == "unknown":
            return lambda: None  # no socket takes this
        if recipe != "score":
            raise getattr(errors, recipe)("so it is\\nand more")
        return [(held_out if part is None else part, os.getpid())], None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        Path(sys.argv[0]).write_text("closed")

worker_process.Worker = Light
sys.argv = [{note!r}, sys.argv[1]]
worker_process.main()
"""

Open = Callable[..., Supervised]


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


@pytest.fixture
def open_process(cache: Path, note: Path) -> Open:
    """A function (what Worker does at its start) -> Supervised."""

    def make(at_start: str = "pass") -> Supervised:
        code = LIGHT_WORKER.format(at_start=at_start, note=str(note))
        return Supervised(light_order(), [sys.executable, "-c", code])

    return make


def ask(worker: Supervised, recipe: Any, held_out: bool = False) -> Any:
    ((answer,), _) = worker.score(recipe, held_out)
    return answer


def test_answers_are_those_of_the_worker(open_process: Open) -> None:
    with open_process() as worker:
        assert worker.ready == "its conditions"
        assert [ask(worker, "score", held_out)[0] for held_out in (False, True)] == [False, True]
        ((answer,), _) = worker.score("score", part=(5, 10))  # type: ignore[arg-type]
        assert answer[0] == (5, 10)


@pytest.mark.parametrize("kind", ["PlanError", "RefusedInput", "StudyError"])
def test_what_a_worker_says_on_purpose_at_its_start_arrives_as_it_is(open_process: Open, kind: str) -> None:
    with pytest.raises(getattr(errors, kind)) as arrived:
        open_process(f"raise errors.{kind}('name another')").__enter__()
    assert type(arrived.value) is getattr(errors, kind)
    assert str(arrived.value) == "name another"


def test_what_a_library_raises_at_the_start_stops_the_study_and_is_in_the_log(
    open_process: Open, cache: Path
) -> None:
    with pytest.raises(errors.StudyError, match=r"^the worker failed to start: ValueError: no rope$"):
        open_process("raise ValueError('no rope' + chr(10) + 'and more')").__enter__()
    assert "ValueError: no rope\nand more" in (cache / "logs" / "study.log").read_text()


def test_only_a_lost_worker_is_replaced(open_process: Open, note: Path) -> None:
    with open_process() as worker:
        process = ask(worker, "score")[1]
        for kind in ("TrialFailed", "StudyError"):
            with pytest.raises(getattr(errors, kind), match=r"^so it is\nand more$"):
                ask(worker, kind)
        assert ask(worker, "score")[1] == process
        assert not note.exists()
        for kind in ("WorkerLost", "MachineFault"):
            with pytest.raises(errors.WorkerLost) as lost:
                ask(worker, kind)
            assert type(lost.value) is getattr(errors, kind)
            assert f"{kind}: so it is\nand more" in worker.log.read_text(), (
                "whole, before the process is ended"
            )
            assert ask(worker, "score")[1] != process
            process = ask(worker, "score")[1]


def test_an_answer_that_cannot_be_sent_costs_the_candidate(open_process: Open, note: Path) -> None:
    """Its process ends in good order, with the reason as its last words."""
    with open_process() as worker:
        with pytest.raises(errors.TrialFailed, match=r"exit code 1 .*pickle"):
            ask(worker, "unknown")
        assert note.read_text() == "closed"


def test_it_dies_with_its_guard(open_process: Open) -> None:
    """Nobody else would end it, once supervisor and guard are killed while it scores."""
    with open_process() as worker:
        process = ask(worker, "score")[1]
        os.kill(os.getpgid(process), signal.SIGKILL)  # the guard leads the group
        assert within(5, lambda: not alive(process))

"""Supervised over a stand-in for the worker process, in a cache of its own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import STAND_IN, WAITING, Supervising, light_order, start

from recipesearch.workers.supervisor import Supervised


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of recipesearch's."""
    monkeypatch.setenv("RECIPESEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def records(cache: Path) -> Path:
    """Where supervisors note their groups."""
    return cache / "workers"


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[list[str]]:
    """What starts a stand-in; the channel's number goes last. No segment of its outlives the test."""
    yield [sys.executable, str(STAND_IN), str(tmp_path)]
    segments = tmp_path / "segments"
    for path in segments.read_text().split() if segments.exists() else ():
        Path(path).unlink(missing_ok=True)


@pytest.fixture
def at_start(tmp_path: Path) -> Callable[[str], object]:
    """A function that says what the next stand-ins do instead of standing, as in ``stand_in.do``."""
    return (tmp_path / "start").write_text


@pytest.fixture
def open_worker(cache: Path, stand_in: list[str]) -> Iterator[Callable[..., Supervised]]:
    """A function timeout -> Supervised with a stand-in, closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(timeout: int = 30) -> Supervised:
            return stack.enter_context(Supervised(light_order(timeout), stand_in))

        yield make


@pytest.fixture
def worker(open_worker: Callable[..., Supervised]) -> Supervised:
    return open_worker()


@pytest.fixture
def supervise(cache: Path, stand_in: list[str]) -> Iterator[Callable[[], Supervising]]:
    """A function that starts a supervisor in a process of its own, killed after the test."""
    with contextlib.ExitStack() as stack:

        def begin() -> Supervising:
            found = Supervising(stand_in)
            stack.callback(found.process.communicate)
            stack.callback(found.process.kill)
            return found

        yield begin


@pytest.fixture
def stranger() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function (code, *arguments, group, **environment): a process that does the code, then waits."""
    started = []

    def begin(
        code: str = WAITING, *arguments: object, group: int = 0, **environment: str
    ) -> subprocess.Popen[str]:
        process = start([sys.executable, "-c", code, *map(str, arguments)], group, **environment)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def segment() -> Iterator[Path]:
    """The path of a shared-memory file that a test may make."""
    path = Path("/dev/shm") / f"psm_recipesearch-test-{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)

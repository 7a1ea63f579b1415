"""Processes for the tests to end, and what is left of them. Light."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from recipesearch.plan import EnginePlan
from recipesearch.recipe import Parent
from recipesearch.score import Goal
from recipesearch.workers.order import WorkerOrder

STAND_IN = Path(__file__).with_name("stand_in.py")

# A supervisor in a process of its own. It prints what the worker did for each line that it is given.
_SUPERVISING = """
import pickle, signal, sys
from recipesearch.workers.supervisor import Supervised

signal.signal(signal.SIGINT, lambda *_: None)
with Supervised(pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2:]) as worker:
    for line in sys.stdin:
        (done,), process = worker.score(line.strip())
        print(process, done, flush=True)
"""

WAITING = "import sys; print(flush=True); sys.stdin.read()"
IGNORING = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITING}"
# Maps the file that it is given.
MAPPING = """
import mmap, sys
from pathlib import Path

Path(sys.argv[1]).parent.mkdir(exist_ok=True)
with open(sys.argv[1], "a+b") as file:
    file.truncate(4096)
    mapped = mmap.mmap(file.fileno(), 4096)
print(flush=True)
sys.stdin.read()
"""


def light_order(timeout: int = 30) -> WorkerOrder:
    """An order that no engine could work with."""
    parent = Parent("0" * 64, "nowhere")
    goals = (Goal("none.acc", "none", "acc"),)
    return WorkerOrder("study", EnginePlan(timeout=timeout), (parent,), parent, goals)


class Supervising:
    """A supervisor over a stand-in, in a process and a session of its own."""

    def __init__(self, command: list[str]) -> None:
        words = [sys.executable, "-c", _SUPERVISING, pickle.dumps(light_order()).hex(), *command]
        self.process = start(words)

    def tell(self, told: str) -> tuple[int, str]:
        """The worker's number, and what it did."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(told + "\n")
        self.process.stdin.flush()
        number, _, done = self.process.stdout.readline().strip().partition(" ")
        return int(number), done


def start(words: list[str], group: int = 0, **environment: str) -> subprocess.Popen[str]:
    """A process in a group, by default its own, with pipes to talk to it."""
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=group,
        env=os.environ | environment,
    )


def living(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_bytes().rpartition(b")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != b"Z":
            found.append(int(path.parent.name))
    return found


def alive(process: int) -> bool:
    """Whether a process has not ended, whatever its group."""
    try:
        return (Path("/proc") / str(process) / "stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def within(seconds: float, met: Callable[[], bool]) -> bool:
    """Whether a condition comes true in time."""
    until = time.monotonic() + seconds
    while not met():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True

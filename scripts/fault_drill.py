"""Injects faults into the worker of a running study, and checks that each fault costs exactly one trial.

    python scripts/fault_drill.py [--times 20] [--engine vllm] [--limit 20]

Four faults: a crash (SIGSEGV), a hang (SIGSTOP), out of memory (an allocation beyond a limit set on the
process), and a merge that raises half-way. Each fault hits every second recipe of a study, ``--times``
recipes in all; then the supervisor itself is killed. Ends with exit code 1 unless every such trial fails
with its cause within the limit + 30 s, every other recipe scores the same as in a study without faults, and
no process and no shared memory remains.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from zoo_studies import ENGINE, objectives

from recipesearch.errors import TrialFailed
from recipesearch.plan import load_plan
from recipesearch.processes import stat
from recipesearch.search import run as search
from recipesearch.study.results import Results, open_results
from recipesearch.study.storage import Database
from recipesearch.workers import remains
from recipesearch.workers.supervisor import Supervised
from recipesearch.zoo import build_zoo

CAUSES = {
    "crash": "crash: the worker was ended by SIGSEGV",
    "hang": "hang: no answer within",
    "memory": "out of memory",
    "stream": "RuntimeError: the stream broke",
}
_TENSORS_BEFORE = 11  # within a layer, between its fused projections
_GIB = 1 << 30
_BEFORE = set(map(str, Path("/dev/shm").iterdir()))
_OTHERS_SECONDS = 10.0
_OURS = "FAULT_DRILL", str(os.getpid())  # in the environment of every process of the drill


def main() -> int:
    arguments = _arguments()
    build_zoo()
    os.environ.update([_OURS])
    with tempfile.TemporaryDirectory(prefix="fault-drill-") as folder:
        whole, _ = _study(Path(folder), "none", 2 * arguments.times + 1, arguments)
        expected = {row.recipe: row.values for row in whole.scored}
        verdicts = {f"without faults: {len(expected)} recipes": len(expected) == 2 * arguments.times + 1}
        for fault in CAUSES:
            found, seconds = _study(Path(folder), fault, arguments.times + 1, arguments)
            verdicts |= _judge(fault, found, seconds, expected, arguments)
        verdicts |= _kill_the_supervisor(Path(folder), arguments)
    for what, held in verdicts.items():
        print(("ok      " if held else "FAILED  ") + what)
    return 0 if all(verdicts.values()) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--limit", type=int, default=20, help="seconds that a candidate may take")
    return parser.parse_args()


# -- the studies


class _Watched(Supervised):
    """Records the seconds until each failed candidate was closed, and the remains of its worker."""

    seconds: list[float]
    left: list[str]

    def score(self, recipe: Any, held_out: bool = False, part: Any = None) -> Any:
        # A restart after another candidate's fault does not count as time of this candidate.
        group, begun = (self._group or self._start_again()).number, time.monotonic()
        try:
            return super().score(recipe, held_out, part)
        except TrialFailed:
            self.seconds.append(time.monotonic() - begun)
            if self._group is None:
                self.left += [f"process {p}" for p in remains._members(group, None)] + _segments()
            raise


def _study(
    folder: Path, fault: str, trials: int, arguments: argparse.Namespace
) -> tuple[Results, type[_Watched]]:
    """A study with the fault in every second recipe. ``random`` proposes the same recipes for every fault."""
    plan = load_plan(_plan_file(folder, fault, trials, arguments))
    command = [sys.executable, __file__, "--worker", fault, str(folder / f"{fault}.count")]
    watched = type("Watched", (_Watched,), {"seconds": [], "left": []})
    return search.run(plan, open_worker=functools.partial(watched, command=command)), watched


def _plan_file(folder: Path, fault: str, trials: int, arguments: argparse.Namespace) -> Path:
    path = folder / f"{fault}.yaml"
    plan = {
        "name": f"drill-{fault}",
        "parents": {name: f"zoo:{name}" for name in ("base", "math", "lang")},
        "base": "base",
        "space": {"weights": {"methods": ["linear", "task_arithmetic"], "layer_groups": 2}},
        "objectives": objectives(),
        "search": {"sampler": "random", "trials": trials, "seed": 1, "max_failure_rate": 1},
        "engine": {**ENGINE, "kind": arguments.engine, "timeout": arguments.limit},
        "storage": f"sqlite:///{fault}.db",
    }
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


def _judge(
    fault: str,
    found: Results,
    watched: type[_Watched],
    expected: dict[str | None, Any],
    arguments: argparse.Namespace,
) -> dict[str, bool]:
    failed = [row for row in found.rows if row.state == "fail"]
    right = [row.values == expected[row.recipe] for row in found.scored if row.recipe in expected]
    named = [CAUSES[fault] in str(row.cause) for row in failed]
    slowest = max(watched.seconds, default=0.0)
    return {
        f"{fault}: {sum(named)} of {arguments.times} trials failed with the cause '{failed[0].cause}'"
        if failed
        else f"{fault}: no trial failed": sum(named) == len(failed) == arguments.times,
        f"{fault}: closed within {slowest:.1f} s, allowed {arguments.limit + 30}": slowest
        <= arguments.limit + 30,
        f"{fault}: {sum(right)} of {arguments.times + 1} other recipes score as without faults": sum(right)
        == arguments.times + 1,
        f"{fault}: left behind: {watched.left or 'nothing'}": not watched.left,
    }


def _kill_the_supervisor(folder: Path, arguments: argparse.Namespace) -> dict[str, bool]:
    """Kills ``recipesearch run`` while its worker scores, and looks for the worker."""
    plan = _plan_file(folder, "killed", 100, arguments)
    run = subprocess.Popen(
        [sys.executable, "-m", "recipesearch", "run", str(plan)], stdout=subprocess.DEVNULL
    )
    while run.poll() is None and not _has_scored(plan):
        time.sleep(0.2)
    groups = _children(run.pid)
    run.kill()
    run.wait()
    begun = time.monotonic()
    while any(remains._members(group, None) for group in groups) and time.monotonic() - begun < 30:
        time.sleep(0.05)
    left = [process for group in groups for process in remains._members(group, None)]
    return {
        f"kill -9 of the supervisor: its {len(groups)} worker group ended after "
        f"{time.monotonic() - begun:.1f} s, left behind: {left + _segments() or 'nothing'}": bool(groups)
        and not left
        and not _segments()
    }


def _has_scored(file: Path) -> bool:
    plan = load_plan(file)
    try:
        return bool(open_results(Database(plan.storage_url), plan.name)[1].scored)
    except Exception:  # not begun yet
        return False


def _children(process: int) -> list[int]:
    return [int(p.name) for p in Path("/proc").glob("[0-9]*") if stat(int(p.name))[1:2] == [str(process)]]


def _segments() -> list[str]:
    """The shared memory that is new since the start of the drill and not mapped by unrelated processes.

    Unrelated processes come and go, and some create a file before they map the file. A file that disappears
    within seconds is therefore not counted.
    """
    until = time.monotonic() + _OTHERS_SECONDS
    while left := sorted(set(map(str, Path("/dev/shm").iterdir())) - _BEFORE - _held_by_others()):
        if time.monotonic() > until:
            break
        time.sleep(0.2)
    return left


def _held_by_others() -> set[str]:
    """The shared memory that processes outside the drill and its descendants have mapped."""
    found, ours = set[str](), "=".join(_OURS).encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (process / "environ").read_bytes().split(b"\0")
            if ours not in environment and process.name != str(os.getpid()):
                lines = os.fsdecode((process / "maps").read_bytes()).splitlines()
                found |= {"/dev/shm/" + line.partition(" /dev/shm/")[2] for line in lines}
    return found


# -- the worker process with the fault


def _faulty_worker(fault: str, count: Path, channel: str) -> None:
    from recipesearch.merging.stream import Merger
    from recipesearch.workers import worker_process as process
    from recipesearch.workers.worker import Worker

    score, stream = Worker.score, Merger.stream
    due = False

    def counted(self: Worker, recipe: Any, held_out: bool = False, part: Any = None) -> Any:
        nonlocal due
        number = int(count.read_text()) if count.exists() else 0
        count.write_text(str(number + 1))
        due = fault != "none" and number % 2 == 1
        return score(self, recipe, held_out, part)

    def breaking(self: Merger, recipe: Any) -> Iterator[Any]:
        for place, entry in enumerate(stream(self, recipe)):
            if due and place == _TENSORS_BEFORE:
                _befall(fault)
            yield entry

    Worker.score, Merger.stream = counted, breaking  # type: ignore[method-assign]
    sys.argv = [sys.argv[0], channel]
    process.main()


def _befall(fault: str) -> None:
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "memory":
        import torch

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _GIB, resource.RLIM_INFINITY))
        torch.ones(2 * _GIB)
    raise RuntimeError("the stream broke")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _faulty_worker(sys.argv[2], Path(sys.argv[3]), sys.argv[4])
    else:
        sys.exit(main())

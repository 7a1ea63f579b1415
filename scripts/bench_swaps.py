"""Hundreds of recipes in one vLLM engine: does memory grow, do swaps slow down, do the answers change?

    python scripts/bench_swaps.py [--swaps 500] [--threads 1]

Each swap loads another recipe of the zoo (linear, ties and dare_ties in turn, random weights) and asks it 64
questions, so that caches are used; memory is the process's resident set, and CPU time tells slow swaps from a
busy machine. Before the swaps and after them the canary sings, and one fixed recipe answers a whole task.
Exit code 1 if memory grew by more than 2 percent (last 50 swaps against first 50), or if an answer or the
canary's error changed.

To warm up, every number of questions from 1 to 64 is asked once, then 10 recipes are swapped in: on a CPU
vLLM keeps up to 128 kernels for each shape of weights, one for each number of tokens it has met.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from recipesearch.engines.vllm import VllmEngine
from recipesearch.parents.identify import identify
from recipesearch.plan import EnginePlan
from recipesearch.recipe import Parent, Recipe, Slice, Source, freeze
from recipesearch.recipe.methods import METHODS as METHOD_TABLE
from recipesearch.scoring.tasks import LoadedTask, load_tasks
from recipesearch.zoo import build_zoo

METHODS = ("linear", "ties", "dare_ties")
WARM_UP = 10
WINDOW = 50
QUESTIONS = 64
MOST_GROWTH = 1.02
MIB = 1 << 20

Sung = tuple[float, list[str]]  # the canary's error, and the fixed recipe's answers


def main() -> int:
    arguments = _arguments()
    zoo = build_zoo()
    parents = [identify(str(zoo / name), zoo) for name in ("base", "math", "lang")]
    plan = EnginePlan(
        kind="vllm", dtype="float32", device="cpu", threads=arguments.threads, batch_size=QUESTIONS
    )
    engine = VllmEngine(parents, parents[0], plan, "cpu")
    questions = _questions(zoo)
    draw = random.Random(0)
    fixed = _recipe(parents, 0, draw)

    before = engine.sing(), _answers(engine, fixed, questions)
    for count in range(1, QUESTIONS):
        engine.lm.generate_until(questions[:count], disable_tqdm=True)
    memory, seconds, busy = [], [], []
    for number in range(WARM_UP + arguments.swaps):
        begun, busy_before = time.perf_counter(), time.process_time()
        lm = engine.load(_recipe(parents, number, draw))
        seconds.append(1000 * (time.perf_counter() - begun))
        busy.append(1000 * (time.process_time() - busy_before))
        lm.generate_until(questions[:QUESTIONS], disable_tqdm=True)
        memory.append(_resident() / MIB)
    after = engine.sing(), _answers(engine, fixed, questions)
    engine.close()
    return _print(memory[WARM_UP:], seconds[WARM_UP:], busy[WARM_UP:], before, after)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--swaps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _questions(zoo: Path) -> list[Any]:
    (loaded,) = load_tasks([str(zoo / "tasks" / "reading_b_search.yaml")])
    assert isinstance(loaded, LoadedTask)
    loaded.task.build_all_requests(rank=0, world_size=1)
    return list(loaded.task.instances)


def _recipe(parents: Sequence[Parent], number: int, draw: random.Random) -> Recipe:
    """Weights and densities are drawn anew, so that no two recipes are the same."""
    method = METHODS[number % len(METHODS)]
    names = {"weight", "density"} & METHOD_TABLE[method].accepts
    sources = [
        Source(parent, None, freeze({name: draw.uniform(0.1, 1.0) for name in sorted(names)}))
        for parent in parents
    ]
    return Recipe(method, (Slice(tuple(sources)),), parents[0], dtype="float32", seed=number)


def _answers(engine: VllmEngine, recipe: Recipe, questions: list[Any]) -> list[str]:
    answers: list[str] = engine.load(recipe).generate_until(questions, disable_tqdm=True)
    return answers


def _resident() -> int:
    """This process's resident memory, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _print(memory: list[float], seconds: list[float], busy: list[float], before: Sung, after: Sung) -> int:
    print(f"{len(memory)} swaps, {QUESTIONS} questions after each; medians of {WINDOW}\n")
    print(f"| | first {WINDOW} | last {WINDOW} | last / first |\n|---|---|---|---|")
    rows = {"resident memory, MiB": memory, "swap, ms": seconds, "swap, ms of CPU time": busy}
    for name, values in rows.items():
        first, last = median(values[:WINDOW]), median(values[-WINDOW:])
        print(f"| {name} | {first:.1f} | {last:.1f} | {last / first:.3f} |")
    same = sum(one == other for one, other in zip(before[1], after[1], strict=True))
    print("\n| | before all | after all |\n|---|---|---|")
    print(f"| canary's error | {before[0]:.3g} | {after[0]:.3g} |")
    print(f"| the fixed recipe's answers | {len(before[1])} | {same} of them the same |")
    flat = median(memory[-WINDOW:]) <= MOST_GROWTH * median(memory[:WINDOW])
    return 0 if flat and before == after else 1


if __name__ == "__main__":
    sys.exit(main())

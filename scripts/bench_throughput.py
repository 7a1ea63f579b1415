"""Scored recipes per minute on the zoo, the parts of a trial's time, and the cost of ask and tell.

    python scripts/bench_throughput.py [--trials 100] [--bookkeeping 2000] [--genes 40]

The first table is of a real study, timed part by part inside one process. The last line is of ask and tell
alone, with made-up values, for ``--bookkeeping`` trials of ``--genes`` genes on SQLite: medians of the first
and the last hundred trials.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from merge_timing import time_merges
from optuna.distributions import FloatDistribution
from zoo_studies import ENGINE, objectives

from recipesearch.engines.transformers import TransformersEngine
from recipesearch.plan import SearchPlan, read_plan
from recipesearch.samplers.per_trial import PerTrialSampler
from recipesearch.scoring.scorer import Scorer
from recipesearch.search import run as search
from recipesearch.study.storage import Database
from recipesearch.study.study import Study
from recipesearch.workers.worker import Worker
from recipesearch.zoo import build_zoo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--bookkeeping", type=int, default=2000)
    parser.add_argument("--genes", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-throughput-") as folder:
        _real_study(Path(folder), arguments.trials)
        _bookkeeping(Path(folder), arguments.bookkeeping, arguments.genes)


def _real_study(folder: Path, trials: int) -> None:
    build_zoo()
    spent: dict[str, float] = defaultdict(float)
    for owner, name, part in (
        (Study, "ask", "ask"),
        (TransformersEngine, "load", "merge and load"),
        (Scorer, "score", "score"),
        (Study, "tell", "tell"),
    ):
        _time_calls(owner, name, spent, part)
    merging = time_merges()
    begun = time.perf_counter()
    results = search.run(read_plan(_plan(trials), folder, "benchmark"), open_worker=Worker)
    whole = time.perf_counter() - begun
    spent["merge"] = sum(merging)
    spent["load"] = spent.pop("merge and load") - spent["merge"]
    busy = sum(spent.values())
    genes = len(results.identity["genes"])
    print(f"{trials} recipes, {genes} genes, 600 items each: {60 * trials / busy:.0f} recipes a minute;")
    print(f"start-up (parents, tasks, study) took {whole - busy:.1f} s beside that\n")
    print("| part of a trial | seconds | percent |\n|---|---|---|")
    for part in ("ask", "merge", "load", "score", "tell"):
        print(f"| {part} | {spent[part] / trials:.4f} | {100 * spent[part] / busy:.0f} |")


def _plan(trials: int) -> dict[str, Any]:
    return {
        "name": "throughput",
        "parents": {"math": "zoo:math", "lang": "zoo:lang"},
        "space": {"weights": {"methods": ["linear", "slerp"], "layer_groups": 4, "own": ["embed", "head"]}},
        "objectives": objectives(),
        "search": {"sampler": "nsga2", "trials": trials},
        "engine": ENGINE,
    }


def _time_calls(owner: Any, name: str, spent: dict[str, float], part: str) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return original(*arguments, **named)
        finally:
            spent[part] += time.perf_counter() - begun

    setattr(owner, name, timed)


def _bookkeeping(folder: Path, trials: int, genes: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {f"weight.{index}": FloatDistribution(0.0, 1.5) for index in range(genes)}
    storage = Database(f"sqlite:///{folder / 'bookkeeping.db'}").storage
    sampler = PerTrialSampler("nsga2", SearchPlan(population=20), space, {})
    study = optuna.create_study(storage=storage, sampler=sampler, directions=["maximize", "maximize"])
    seconds = []
    for _ in range(trials):
        begun = time.perf_counter()
        trial = study.ask()
        genome = [trial.suggest_float(name, gene.low, gene.high) for name, gene in space.items()]
        study.tell(trial.number, [genome[0], -sum(genome)])
        seconds.append(time.perf_counter() - begun)
    first, last = median(seconds[:100]), median(seconds[-100:])
    print(
        f"\nask + tell, {genes} genes, nsga2 on SQLite, p50: {1000 * first:.0f} ms in the first 100 trials,"
    )
    print(f"{1000 * last:.0f} ms in the last 100 of {trials}")


if __name__ == "__main__":
    main()

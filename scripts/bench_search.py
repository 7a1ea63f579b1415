"""Best searched merge against parents, uniform average and random search, on held-out items of the zoo.

    python scripts/bench_search.py [--trials 150] [--seeds 0 1 2] [--folder runs/bench_search]

Two pools: {math, lang}, and {base, math, lang}. At equal scored recipes: random search; nsga2 for both
objectives; nsga2 and cmaes (on one fixed method) for addition alone. "Best" is chosen by addition in
language B on the search items; its held-out score is printed. Hypervolume is of (addition, reading) on
search items, from (0, 0). Prints Markdown. The folder keeps the studies: the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from recipesearch import pareto
from recipesearch.plan import read_plan
from recipesearch.search.run import run
from recipesearch.study.results import Results, Row
from recipesearch.zoo import build_zoo

POOLS: dict[str, dict[str, Any]] = {
    "math, lang": {"parents": ("math", "lang"), "methods": ["linear", "slerp"], "one": "linear"},
    "base, math, lang": {
        "parents": ("base", "math", "lang"),
        "methods": ["linear", "slerp", "task_arithmetic", "ties"],
        "one": "task_arithmetic",
    },
}
SAMPLERS = {
    "random": "random",
    "nsga2": "nsga2",
    "nsga2-one": "nsga2, addition alone",
    "cmaes": "cmaes, addition alone",
}
STEPS = (25, 50, 100, 150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_search"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for pool in POOLS:
        studies = {
            (sampler, seed): _study(pool, sampler, seed, arguments)
            for seed in arguments.seeds
            for sampler in SAMPLERS
        }
        _print_pool(pool, studies, arguments)


def _study(pool: str, sampler: str, seed: int, arguments: argparse.Namespace) -> Results:
    build_zoo(seed, report=lambda line: print(line, file=sys.stderr))
    choice = POOLS[pool]
    task = f"zoo@{seed}:tasks/{{}}.yaml".format
    kind = sampler.removesuffix("-one")
    search: dict[str, Any] = {"sampler": kind, "trials": arguments.trials, "seed": seed}
    if sampler in ("cmaes", "nsga2-one"):
        search["scalarize"] = (1.0, 0.0)
    plan = {
        "name": f"{pool.replace(', ', '-')}-{sampler}-{seed}",
        "parents": {name: f"zoo@{seed}:{name}" for name in choice["parents"]},
        "base": "base" if "base" in choice["parents"] else None,
        "space": {
            "weights": {
                "methods": [choice["one"]] if sampler == "cmaes" else choice["methods"],
                "layer_groups": 4,
                "own": ["embed", "head"],
            }
        },
        "objectives": [
            {"task": task(f"{name}_search"), "metric": "exact_match"} for name in ("addition_b", "reading_b")
        ],
        "held_out": [task(f"{name}_held_out") for name in ("addition_b", "reading_b")],
        "search": search,
        "engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 300},
        "storage": f"sqlite:///zoo-{seed}.db",
    }
    print(f"running {plan['name']}", file=sys.stderr, flush=True)
    return run(read_plan(plan, arguments.folder.absolute(), "benchmark"))


def _print_pool(pool: str, studies: dict[tuple[str, int], Results], arguments: argparse.Namespace) -> None:
    seeds = arguments.seeds
    print(f"\n### Pool {{{pool}}}: addition B / reading B on held-out items\n")
    print("| model | " + " | ".join(f"zoo seed {seed}" for seed in seeds) + " |")
    print("|---" * (len(seeds) + 1) + "|")
    for label in [*(f"parent {name}" for name in POOLS[pool]["parents"]), "uniform average"]:
        cells = [_pair(_labelled(studies["random", seed], label)) for seed in seeds]
        print(f"| {label} | " + " | ".join(cells) + " |")
    for sampler, label in SAMPLERS.items():
        cells = [_pair(_best(studies[sampler, seed])) for seed in seeds]
        print(f"| best of {arguments.trials}, {label} | " + " | ".join(cells) + " |")
    for sampler, label in SAMPLERS.items():
        gains = [_gains(pool, studies[sampler, seed]) for seed in seeds]
        print(f"| {label}: gain over better parent / over average (addition B) | ", end="")
        print(" | ".join(f"{parent:+.2f} / {average:+.2f}" for parent, average in gains) + " |")
    print(f"\nHypervolume on search items, mean of {len(seeds)} seeds\n")
    steps = [step for step in STEPS if step <= arguments.trials]
    print("| sampler | " + " | ".join(f"{step} recipes" for step in steps) + " |")
    print("|---" * (len(steps) + 1) + "|")
    for sampler, label in SAMPLERS.items():
        volumes = [mean(_hypervolume(studies[sampler, seed], step) for seed in seeds) for step in steps]
        print(f"| {label} | " + " | ".join(f"{volume:.3f}" for volume in volumes) + " |", flush=True)


def _best(results: Results) -> Row:
    """The best by search items that has a held-out score: the front's end, so it always has one."""
    return results.best(results.objectives[0])


def _labelled(results: Results, label: str) -> Row:
    return next(row for row in results.scored if row.seed == label)


def _pair(row: Row) -> str:
    assert row.held_out is not None
    addition, reading = row.held_out
    return f"{addition.value:.2f} ± {addition.stderr or 0:.2f} / {reading.value:.2f}"


def _gains(pool: str, results: Results) -> tuple[float, float]:
    def addition(row: Row) -> float:
        assert row.held_out is not None
        return row.held_out[0].value

    parents = [addition(_labelled(results, f"parent {name}")) for name in POOLS[pool]["parents"]]
    best = addition(_best(results))
    return best - max(parents), best - addition(_labelled(results, "uniform average"))


def _hypervolume(results: Results, recipes: int) -> float:
    return pareto.hypervolume(results.losses()[:recipes], np.zeros(2))


if __name__ == "__main__":
    main()

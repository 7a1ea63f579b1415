"""What a first study is worth to a second one over another space of the same parents, on the zoo.

    python scripts/bench_known.py [--zoos 0 1 2 3] [--seeds 0 1] [--trials 50]

The first study searches linear merges of math and lang in four layer groups; the second one the demo's space
(linear and slerp; embeddings and head are places of their own). The second study runs twice: in a database of
its own, and in the first one's, whose scores are its training data. Prints the held-out hypervolume of the
measured front after 10, 15, 20, 25 and 50 recipes, mean ± one standard error, and how many recipes each needs
for the volume of the first study's front.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from bench_search import Cell, front_volume, run_study, study_plan
from markdown_tables import table_head, table_row
from quick_worker import QuickZoo

from recipesearch.checking.preflight import preflight
from recipesearch.plan import Plan, read_plan

STEPS = (10, 15, 20, 25, 50)
FIRST = {"weights": {"methods": ["linear"], "layer_groups": 4}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoos", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--trials", type=int, default=50)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    runs = [_compare(zoo, seed, arguments.trials) for zoo in arguments.zoos for seed in arguments.seeds]
    print(table_head("", *(f"{step} recipes" for step in STEPS), "recipes to the first front"))
    for name in runs[0]:
        found = [one[name] for one in runs]
        cells = [_interval([volumes[step] for volumes, _ in found]) for step in STEPS]
        print(table_row(name, *cells, ", ".join(str(needed or "never") for _, needed in found)))


def _compare(zoo_seed: int, seed: int, trials: int) -> dict[str, tuple[dict[int, float], int | None]]:
    zoo = QuickZoo(zoo_seed, 150)
    with tempfile.TemporaryDirectory() as scratch:
        cell = Cell("demo", "merge_gp", zoo_seed, seed, trials, 150, 0, "front")
        second = study_plan(cell, Path(scratch))
        first = _changed(second, name="first", space=FIRST)
        alone = _changed(second, name="alone", storage=f"sqlite:///{scratch}/alone.db")
        goal = _volumes(first, zoo)[trials]
        found = {"without the first study": _volumes(alone, zoo), "with its scores": _volumes(second, zoo)}
    return {name: (volumes, _needed(volumes, goal)) for name, volumes in found.items()}


def _changed(plan: Plan, **keys: Any) -> Plan:
    document = plan.model_dump(mode="json", exclude_none=True) | keys
    return read_plan(document, plan.folder, "bench")


def _volumes(plan: Plan, zoo: QuickZoo) -> dict[int, float]:
    """The held-out hypervolume of the measured front by the number of recipes."""
    parents = tuple(preflight(plan).pool.parents.values())
    scored, _ = run_study(plan, parents, zoo)
    return {count: front_volume(scored[:count], parents, zoo) for count in range(1, len(scored) + 1)}


def _needed(volumes: dict[int, float], goal: float) -> int | None:
    return next((count for count, volume in volumes.items() if volume >= goal), None)


def _interval(values: Sequence[float]) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()

"""Samplers at equal numbers of scored recipes: real merges of several zoos, quality on held-out items.

    python scripts/bench_search.py FOLDER [--spaces demo base six] [--samplers random nsga2 tpe gp]
        [--zoos 0 1 2 3] [--seeds 0 1] [--trials 150] [--items 150] [--part 50] [--value mean]

Runs every study that FOLDER lacks, in this process, then prints a table for each space of landscapes.py.
Objectives are exact match on the landscape's tasks, ITEMS search items each; with ``--value mean`` one
number, the mean of two.
With ``--part`` a recipe is scored on that many items of each task (search.items). With ``--workers`` so many
recipes are in flight, for random times (virtual_pool.py). Quality, by the number of
recipes: the hypervolume, above 0 or a task's bound, of the measured front's values on 300 held-out items of
each task (one number: the held-out mean of the recipe with the best measured mean), so no quality is a
winner's luck. Each cell: mean ± one standard error over zoos and search seeds, and how often the sampler
beats random sampling on the same zoo and search seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from landscapes import LANDSCAPES
from markdown_tables import table_head, table_row
from numpy.typing import NDArray
from peers import Parents, evolve, mergenetic
from quick_worker import QuickWorker, QuickZoo
from virtual_pool import virtual

from recipesearch import pareto
from recipesearch.checking.preflight import preflight
from recipesearch.errors import SpaceUsedUp
from recipesearch.files import cache_dir
from recipesearch.plan import Plan, read_plan
from recipesearch.recipe import Parent, Recipe
from recipesearch.search.run import run
from recipesearch.study.results import open_results
from recipesearch.study.storage import Database

PEERS = {"evolve": evolve, "mergenetic": mergenetic}
PEER_METHODS = {
    "demo": "linear",
    "linear": "linear",
    "base": "task_arithmetic",
    "arithmetic": "task_arithmetic",
    "six": "dare_ties",
}
STEPS = (7, 17, 20, 25, 35, 50, 75, 100, 150)

Scored = tuple[Recipe, list[float]]


@dataclass(frozen=True)
class Cell:
    """One study of the tables."""

    space: str
    sampler: str
    zoo: int
    seed: int
    trials: int
    items: int
    part: int
    value: str
    workers: int = 1

    @property
    def name(self) -> str:
        """The stem of the cell's file."""
        budget = f"t{self.trials}-i{self.items}" + (f"-p{self.part}" if self.part else "")
        budget += f"-w{self.workers}" if self.workers > 1 else ""
        return f"{self.space}-{self.sampler}-z{self.zoo}-s{self.seed}-{budget}-{self.value}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--spaces", nargs="+", default=["demo", "base", "six"])
    parser.add_argument("--samplers", nargs="+", default=["random", "nsga2", "tpe", "gp"])
    parser.add_argument("--zoos", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--items", type=int, default=150)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--value", choices=("front", "mean"), default="front")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    zoos: dict[Any, QuickZoo] = {}
    for cell in _cells(arguments):
        if not _file(arguments.folder, cell).exists():
            key = cell.zoo, LANDSCAPES[cell.space].tasks
            if key not in zoos:
                zoos[key] = QuickZoo(cell.zoo, cell.items, key[1])
            _file(arguments.folder, cell).write_text(json.dumps(_measure(cell, zoos[key])))
    for space in arguments.spaces:
        _print(space, [cell for cell in _cells(arguments) if cell.space == space], arguments.folder)


def _cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    a = arguments
    for zoo in a.zoos:
        for seed in a.seeds:
            for space in a.spaces:
                for sampler in a.samplers:
                    yield Cell(space, sampler, zoo, seed, a.trials, a.items, a.part, a.value, a.workers)


def _file(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.name}.json"


# -- one study


def _measure(cell: Cell, zoo: QuickZoo) -> dict[str, Any]:
    """Runs a study; its quality by number of recipes, its methods, and the seconds of its proposals."""
    with tempfile.TemporaryDirectory(dir=_memory()) as scratch:
        plan = study_plan(cell, Path(scratch))
        started = time.process_time()
        checked = preflight(plan)
        parents = checked.pool.parents
        scored = (_peer if cell.sampler in PEERS else _study)(cell, plan, parents, zoo)
        seconds = time.process_time() - started
        quality = {step: _quality(cell, scored[:step], tuple(parents.values()), zoo) for step in STEPS}
        print(cell.name, {s: round(q, 3) for s, q in quality.items()}, f"{seconds:.0f} s", flush=True)
        methods, values = [recipe.method for recipe, _ in scored], [values for _, values in scored]
        return {"quality": quality, "methods": methods, "values": values, "seconds": seconds}


def _study(cell: Cell, plan: Plan, parents: Parents, zoo: QuickZoo) -> list[Scored]:
    with virtual(cell.workers, seed=cell.seed):
        return run_study(plan, tuple(parents.values()), zoo, cell.part)[0]


def run_study(
    plan: Plan, parents: Sequence[Parent], zoo: QuickZoo, part: int = 0
) -> tuple[list[Scored], list[Recipe]]:
    """A study's recipes in the order of scoring, with their values, and the members of its front."""
    try:
        results = run(plan, open_worker=lambda order: QuickWorker(zoo, order))
    except SpaceUsedUp:
        results = open_results(Database(plan.storage_url))[1]
    express = preflight(plan).space.express
    recipes = [express(row.genome) for row in sorted(results.scored, key=lambda row: str(row.ended))]
    scored = [(recipe, zoo.values(recipe, parents, part)) for recipe in recipes]
    return scored, [express(row.genome) for row in results.front]


def _peer(cell: Cell, plan: Plan, parents: Parents, zoo: QuickZoo) -> list[Scored]:
    """The recipes of a peer's search, without repeats."""
    found: dict[str, Scored] = {}

    def score(recipe: Recipe) -> tuple[float, float]:
        one, other = (float(bits.mean()) for bits in zoo.answers(recipe, tuple(parents.values())))
        found.setdefault(recipe.digest, (recipe, [one, other]))
        return one, other

    PEERS[cell.sampler](score, parents, PEER_METHODS[cell.space], cell.trials, cell.seed)
    return list(found.values())


def _quality(cell: Cell, scored: Sequence[Scored], parents: Sequence[Parent], zoo: QuickZoo) -> float:
    """The held-out quality of what these recipes measured."""
    if cell.value == "front":
        return front_volume(scored, parents, zoo, _floors(cell))
    best, _ = max(scored, key=lambda one: float(np.mean(one[1])))
    return float(_held_out(zoo, [best], parents).mean())


def _floors(cell: Cell) -> NDArray[np.float64]:
    """The least value of each objective: its bound, or 0."""
    landscape = LANDSCAPES[cell.space]
    return np.array([landscape.floors.get(task, 0.0) for task in landscape.tasks])


def front_volume(
    scored: Sequence[Scored], parents: Sequence[Parent], zoo: QuickZoo, floors: Any = 0.0
) -> float:
    """The held-out hypervolume of the measured front of the recipes that measured at least ``floors``."""
    values = np.array([found for _, found in scored])
    within = np.flatnonzero((values >= floors).all(axis=1))
    front = within[pareto.front(-values[within])]
    return held_out_volume(zoo, [scored[index][0] for index in front], parents, floors)


def held_out_volume(
    zoo: QuickZoo, recipes: Sequence[Recipe], parents: Sequence[Parent], floors: Any = 0.0
) -> float:
    """The hypervolume of recipes on held-out items above ``floors``, as a share of the largest possible."""
    if not recipes:
        return 0.0
    floors = np.broadcast_to(floors, len(zoo.tasks))
    return pareto.hypervolume(-_held_out(zoo, recipes, parents), -floors) / float(np.prod(1 - floors))


def _held_out(zoo: QuickZoo, recipes: Sequence[Recipe], parents: Sequence[Parent]) -> NDArray[np.float64]:
    answers = [zoo.answers(recipe, parents, held_out=True) for recipe in recipes]
    return np.array([[float(bits.mean()) for bits in of_tasks] for of_tasks in answers])


def study_plan(cell: Cell, folder: Path) -> Plan:
    """The plan of a cell's study, in a folder."""
    sampler = "random" if cell.sampler in PEERS else cell.sampler
    search: dict[str, Any] = {"sampler": sampler, "trials": cell.trials, "seed": cell.seed}
    if cell.value == "mean":
        search["scalarize"] = [0.5, 0.5]
    if cell.part:
        search["items"] = cell.part
    document = LANDSCAPES[cell.space].document(cell.zoo, folder, cache_dir() / "specialists")
    document |= {"search": search, "storage": f"sqlite:///{folder / 'study.db'}"}
    return read_plan(document, folder, "bench")


def _memory() -> str | None:
    """A folder in memory, if there is one: no study of this script is kept."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


# -- the tables


def _print(space: str, cells: Sequence[Cell], folder: Path) -> None:
    found: dict[str, dict[tuple[int, int], Any]] = {}
    for cell in cells:
        record = json.loads(_file(folder, cell).read_text())
        found.setdefault(cell.sampler, {})[cell.zoo, cell.seed] = record
    steps = [step for step in STEPS if step <= cells[0].trials]
    print(f"\n{space}, {cells[0].items} items: held-out quality")
    print(table_head("", *(f"{step} recipes" for step in steps), "seconds"))
    for sampler, runs in found.items():
        row = [_cell(sampler, runs, found.get("random", {}), str(step)) for step in steps]
        print(table_row(sampler, *row, f"{np.mean([run['seconds'] for run in runs.values()]):.0f}"))


def _cell(sampler: str, runs: Mapping[Any, Any], random: Mapping[Any, Any], step: str) -> str:
    values = np.array([record["quality"][step] for record in runs.values()])
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    text = f"{values.mean():.3f} ± {error:.3f}"
    pairs = [(runs[key], random[key]) for key in runs if key in random]
    if sampler == "random" or not pairs:
        return text
    ahead = sum(one["quality"][step] > other["quality"][step] for one, other in pairs)
    return f"{text} ({ahead} of {len(pairs)})"


if __name__ == "__main__":
    main()

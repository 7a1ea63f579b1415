"""Compares the quick worker of the search benchmarks with the project's Worker, item by item.

    python scripts/check_quick_worker.py [--recipes 12] [--zoos 0 1]

Scores the seeds and random genomes of each space of landscapes.py on all search items, by lm-eval's
generation in a Worker and by one forward pass. Ends with exit code 1 if any item differs.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import optuna
import torch
from bench_search import Cell, study_plan
from landscapes import LANDSCAPES
from quick_worker import QuickZoo

from recipesearch.checking.preflight import Preflight, preflight
from recipesearch.checking.worker_order import worker_order
from recipesearch.recipe import Recipe
from recipesearch.space.seeds import seeds
from recipesearch.workers.worker import Worker

ITEMS = 300  # all search items of a task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipes", type=int, default=12)
    parser.add_argument("--zoos", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    differing = 0
    for zoo in arguments.zoos:
        for space, landscape in LANDSCAPES.items():
            quick = QuickZoo(zoo, ITEMS, landscape.tasks)
            differing += _compare(space, quick, zoo, arguments.recipes)
    sys.exit(bool(differing))


def _compare(space: str, quick: QuickZoo, zoo: int, count: int) -> int:
    """The number of items that the two answer differently."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = study_plan(Cell(space, "random", zoo, 0, count, ITEMS, 0, "front"), Path(scratch))
        checked = preflight(plan)
        recipes = _recipes(checked, count)
        parents = tuple(checked.pool.parents.values())
        differing = 0
        with Worker(worker_order(checked)) as worker:
            for recipe in recipes:
                scores, _ = worker.score(recipe)
                for score, bits in zip(scores, quick.answers(recipe, parents), strict=True):
                    by_place: list[Any] = [item["exact_match"] for _, item in sorted(score.items.items())]
                    differing += sum(one != other for one, other in zip(by_place, bits, strict=True))
        print(f"zoo {zoo}, {space}: {len(recipes)} recipes, {differing} items differ", flush=True)
        return differing


def _recipes(checked: Preflight, count: int) -> list[Recipe]:
    """Recipes of seeds and of random genomes."""
    space, chance = checked.space, optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=chance)
    genomes = [genome for _, genome in seeds(space)]
    while len(genomes) < count:
        genomes.append(study.ask(dict(space.genes)).params)
    return [space.express(genome) for genome in genomes[:count]]


if __name__ == "__main__":
    main()

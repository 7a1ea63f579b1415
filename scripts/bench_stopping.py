"""What the rule "stop a recipe when it is beaten" would save for samplers without a model.

    python scripts/bench_stopping.py [--spaces demo six] [--samplers random tpe] [--zoos 0 1 2 3]

Studies of 150 recipes on 150 items a task are searched, and then scored again in blocks of 50 items: a recipe
ends at a block after which an earlier recipe beats it in every task by 1.5 paired standard errors. Shown are
the share of items saved, and the held-out hypervolume of the measured front with and without the rule. The
sampler is taken to propose the same recipes, so the saving is what the rule could give at most.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import torch
from bench_search import Cell, front_volume, run_study, study_plan
from markdown_tables import table_head, table_row
from numpy.typing import NDArray
from quick_worker import QuickZoo

from recipesearch.checking.preflight import preflight
from recipesearch.score import item_order

ITEMS, BLOCK, ERRORS = 150, 50, 1.5
Answers = Sequence[NDArray[np.float64]]  # of each task, in the order in which blocks are taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=["demo", "six"])
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    parser.add_argument("--zoos", type=int, nargs="+", default=[0, 1, 2, 3])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    print(table_head("space", "sampler", "items saved", "whole tasks", "with the rule"))
    for space in arguments.spaces:
        for sampler in arguments.samplers:
            rows = np.array([_measured(space, sampler, zoo) for zoo in arguments.zoos])
            saved, whole, ruled = rows.mean(axis=0)
            print(table_row(space, sampler, f"{saved:.0%}", f"{whole:.3f}", f"{ruled:.3f}"), flush=True)


def _measured(space: str, sampler: str, number: int) -> tuple[float, float, float]:
    """The share of items saved, and the volumes without and with the rule."""
    zoo = QuickZoo(number, ITEMS)
    with tempfile.TemporaryDirectory() as folder:
        plan = study_plan(Cell(space, sampler, number, 0, 150, ITEMS, 0, "front"), Path(folder))
        parents = tuple(preflight(plan).pool.parents.values())
        scored, _ = run_study(plan, parents, zoo)
    orders = [item_order(zoo.task_hash(task), ITEMS) for task in zoo.tasks]
    whole: list[Answers] = []
    kept, spent = [], 0
    for recipe, values in scored:
        answers = zoo.answers(recipe, parents)
        ordered = [bits[order].astype(float) for bits, order in zip(answers, orders, strict=True)]
        items = next((n for n in range(BLOCK, ITEMS, BLOCK) if _is_beaten(ordered, whole, n)), ITEMS)
        spent += items
        if items == ITEMS:
            whole.append(ordered)
            kept.append((recipe, values))
    saved = 1 - spent / (ITEMS * len(scored))
    return saved, front_volume(scored, parents, zoo), front_volume(kept, parents, zoo)


def _is_beaten(recipe: Answers, others: Sequence[Answers], items: int) -> bool:
    """Whether one of the others is better in every task, by paired errors on the first ``items`` items."""
    return any(
        all(_leads(theirs[:items] - own[:items]) for own, theirs in zip(recipe, other, strict=True))
        for other in others
    )


def _leads(differences: NDArray[np.float64]) -> bool:
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return bool(differences.mean() > ERRORS * max(error, 1e-9))


if __name__ == "__main__":
    main()

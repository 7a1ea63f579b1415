"""A winner against its mutant, on held-out items, by kind and strength of the mutation.

    python scripts/bench_mutation.py [--zoos 0 1 2] [--trials 60]

For each zoo a small search (parents math and lang, addition and reading in B), its knee, and mutants of it:
DPO at several learning rates and the default number of steps, and SFT. Preference items come from the train
split. Printed for each: before and after on the held-out items of both tasks, the one-sided p of a paired
permutation test, addition in language A before and after (nothing asks for it), KL, what the gate would say
on search items, and the seconds of training. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from recipesearch.check.preflight import preflight
from recipesearch.mutation.breeder import Breeder, Elite, Means, recipes_of
from recipesearch.mutation.gate import Asked, judge, paired_p
from recipesearch.mutation.training import train
from recipesearch.mutation.training_order import Order, Trained
from recipesearch.plan import MutationPlan, Plan, load_plan
from recipesearch.recipe import Parent
from recipesearch.score import TaskScore
from recipesearch.search.run import run
from recipesearch.study.storage import open_storage
from recipesearch.workers.worker import Worker
from recipesearch.zoo import build_zoo

TASKS = ("addition_b", "reading_b")
WATCHED = "addition_a"
Scores = dict[bool, list[TaskScore]]
KINDS: Mapping[str, Mapping[str, Any]] = {
    "DPO, lr 3e-5": {"learning_rate": 3e-5},
    "DPO, lr 1e-4 (default)": {},
    "DPO, lr 3e-4": {"learning_rate": 3e-4},
    "DPO, lr 1e-3": {"learning_rate": 1e-3},
    "DPO, lr 3e-3": {"learning_rate": 3e-3},
    "DPO, own best answers": {"chosen": "best", "samples": 8},
    "SFT, lr 1e-4": {"kind": "sft"},
    "SFT, lr 3e-4": {"kind": "sft", "learning_rate": 3e-4},
}
METRIC = "exact_match"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoos", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    heads = ["zoo", "mutation", "addition B", "p", "reading B", "p", "addition A", "KL", "gate", "seconds"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for zoo in arguments.zoos:
        with tempfile.TemporaryDirectory() as folder:
            for cells in _mutants(Path(folder), zoo, arguments.trials):
                print(f"| {zoo} | {' | '.join(cells)} |", flush=True)


def _mutants(folder: Path, zoo: int, trials: int) -> Sequence[Sequence[str]]:
    plan = _plan(folder, zoo, trials)
    results = run(
        plan.model_copy(update={"objectives": plan.objectives[:2], "held_out": ()}), open_worker=Worker
    )
    checked = preflight(plan)
    row = results.knee()
    elite = Elite.of(checked.space.express(row.genome), row.number, "knee")
    rows = []
    told: list[Trained] = []

    def trained(order: Order) -> Trained:
        told.append(train(order))
        return told[-1]

    breeder = Breeder(plan, Means(open_storage(plan.storage_url).engine, Worker, trained))
    before = _scores(plan, elite.parent)
    for name, settings in KINDS.items():
        mutation = breeder.mutation(elite, MutationPlan.model_validate(settings))
        with Worker(plan, checked.pool.parents) as worker:
            mined = breeder.mine(mutation, worker)
        begun = time.monotonic()
        mutant = breeder.trained(mutation, mined)
        seconds = time.monotonic() - begun
        rows.append([name, *_cells(before, _scores(plan, mutant), told[-1], mutation.plan), f"{seconds:.0f}"])
    return rows


def _cells(before: Scores, after: Scores, trained: Trained, plan: MutationPlan) -> list[str]:
    cells = []
    for place in range(len(TASKS)):
        pair = before[True][place], after[True][place]
        p, _ = paired_p(pair[0].items, pair[1].items, METRIC)
        cells += [" -> ".join(f"{_value(score):.3f}" for score in pair), f"{p:.2g}"]
    pairs = list(zip(before[False], after[False], strict=True))
    asked = [
        Asked(name, METRIC, True, (_value(b), _value(a)), (b.items, a.items))
        for name, (b, a) in zip((*TASKS, WATCHED), pairs, strict=True)
    ]
    verdict = judge(asked[: len(TASKS)], len(TASKS), plan)
    forgot = " -> ".join(f"{_value(score):.3f}" for score in pairs[-1])
    stopped = f" (stopped at {trained.steps})" if trained.stopped else ""
    return [*cells, forgot, f"{trained.kl:.3f}{stopped}", "in" if verdict.accepted else "out"]


def _scores(plan: Plan, parent: Parent) -> Scores:
    """A parent's scores on the search items (False) and the held-out ones (True)."""
    with Worker(plan.model_copy(update={"parents": {"it": ""}}), {"it": parent}) as worker:
        alone = recipes_of(parent, plan.engine.dtype)[-1]
        return {held_out: worker.score(alone, held_out)[0] for held_out in (False, True)}


def _value(score: TaskScore) -> float:
    return score.metrics[METRIC].value


def _plan(folder: Path, zoo: int, trials: int) -> Plan:
    tasks = build_zoo(zoo) / "tasks"
    searched = [{"task": str(tasks / f"{t}_search.yaml"), "metric": METRIC} for t in TASKS]
    raw = {
        "name": "mutation",
        "parents": {name: f"zoo@{zoo}:{name}" for name in ("math", "lang")},
        "space": {"weights": {"methods": ["linear"], "layer_groups": 4, "own": ["embed", "head"]}},
        "objectives": [*searched, {"task": str(tasks / f"{WATCHED}_search.yaml"), "metric": METRIC}],
        "held_out": [str(tasks / f"{t}_held_out.yaml") for t in (*TASKS, WATCHED)],
        "preference": [str(tasks / f"{t}_preference.yaml") for t in TASKS],
        "search": {"sampler": "nsga2", "population": 10, "trials": trials, "seed": zoo},
        "engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 300},
    }
    path = folder / "mutation.yaml"
    path.write_text(yaml.safe_dump(raw))
    return load_plan(path)


if __name__ == "__main__":
    main()

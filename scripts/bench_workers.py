"""Many workers on one study: throughput against the ideal, exactness, and the cost of bookkeeping.

    python scripts/bench_workers.py [--workers 1 2 4 8 16 64] [--seconds 1] [--each 20] [--storage URL]
        [--real]

Workers answer by a formula after SECONDS (InstantWorker and a pause). Each study scores EACH recipes per
worker by random search, and its report says: recipes per second against WORKERS / SECONDS, the share of the
workers' time that scoring took, milliseconds from a worker's end to its next recipe (ask and tell), and
whether all totals are exact: recipes scored, trial numbers, one ledger row per key, no recipe twice. With
``--real`` the workers are the project's, in processes of their own with one thread each: real merges in
transformers, scored on 600 items. SECONDS is then what a recipe takes with one worker, for the share of the
ideal.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import sqlalchemy as sa
from bench_bookkeeping import Clock
from markdown_tables import table_head, table_row
from zoo_studies import ENGINE, objectives

from recipesearch.plan import Plan, read_plan
from recipesearch.recipe import Recipe
from recipesearch.search.run import Progress, run
from recipesearch.study.results import Results
from recipesearch.study.storage import Database
from recipesearch.study.study import Study
from recipesearch.workers.instant import InstantWorker
from recipesearch.workers.order import OpenWorker
from recipesearch.workers.supervisor import Supervised

SPACE = {
    "methods": ["linear", "ties"],
    "layer_groups": 4,
    "own": ["embed", "head"],
    "filters": ["self_attn", "mlp"],
}


class Pausing(InstantWorker):
    """Takes ``seconds`` for each recipe, and counts how often each recipe was scored."""

    seconds: ClassVar[float]
    scored: ClassVar[Counter[str]]

    def score(self, recipe: Recipe, *arguments: Any, **keywords: Any) -> Any:
        """As InstantWorker, after a pause."""
        self.scored[recipe.digest] += 1
        time.sleep(self.seconds)
        return super().score(recipe, *arguments, **keywords)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 64])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--storage", default="", help="a database (default: an SQLite file)")
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--real", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    heads = (
        "recipes per second",
        "of the ideal",
        "utilisation",
        "ask + tell p50, ms",
        "p95, ms",
        "recipes",
        "exact",
    )
    print(table_head("workers", *heads))
    for count in arguments.workers:
        print(table_row(count, *_measured(count, arguments)), flush=True)


def _measured(count: int, arguments: argparse.Namespace) -> list[str]:
    worker: Any = type("Pausing", (Pausing,), {"seconds": arguments.seconds, "scored": Counter()})
    asked, told = Clock(Study, "ask"), Clock(Study, "tell")
    seen: list[tuple[float, Progress]] = []
    with tempfile.TemporaryDirectory() as folder, asked.patch, told.patch:
        trials = count * arguments.each
        plan = study_plan(Path(folder), arguments.sampler, count, trials, arguments.storage)
        open_worker: OpenWorker = Supervised if arguments.real else worker
        results = run(plan, lambda progress: seen.append((time.monotonic(), progress)), open_worker)
        scored = None if arguments.real else worker.scored
        exact = _exact(results, plan, scored)
    rate = plan.search.trials / (seen[-1][0] - seen[0][0])
    spent = np.array(asked.wall[: len(told.wall)]) + np.array(told.wall)
    times = [f"{1e3 * float(np.quantile(spent, q)):.1f}" for q in (0.5, 0.95)]
    shares = [f"{rate * arguments.seconds / count:.3f}", f"{seen[-1][1].utilisation:.3f}"]
    return [f"{rate:.1f}", *shares, *times, str(len(results.scored)), "yes" if exact else "NO"]


def study_plan(folder: Path, sampler: str, workers: int, trials: int, storage: str = "") -> Plan:
    """A study of about 40 genes over three parents of the zoo, with two objectives."""
    document = {
        "name": f"workers-{uuid.uuid4().hex[:8]}",
        "parents": {name: f"zoo:{name}" for name in ("base", "math", "lang")},
        "base": "base",
        "space": {"weights": SPACE},
        "objectives": objectives(),
        "search": {"sampler": sampler, "trials": trials, "seed": workers},
        "engine": {**ENGINE, "workers": workers},
        "storage": storage or f"sqlite:///{folder / 'study.db'}",
    }
    return read_plan(document, folder, "workers")


def _exact(results: Results, plan: Plan, scored: Counter[str] | None) -> bool:
    """Whether every total is exact: see the module's description."""
    with Database(plan.storage_url).engine.connect() as connection:
        query = "select count(*) from recipesearch_scores group by recipe, task, engine having count(*) > 1"
        doubled = connection.execute(sa.text(query)).all()
    return (
        len(results.scored) == plan.search.trials
        and (scored is None or set(scored.values()) == {1})
        and [row.number for row in results.rows] == list(range(len(results.rows)))
        and {row.state for row in results.rows} == {"complete"}
        and not doubled
    )


if __name__ == "__main__":
    main()

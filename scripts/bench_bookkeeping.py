"""The bookkeeping of a long study: seconds to open it, and milliseconds of CPU and wall clock per trial.

    python scripts/bench_bookkeeping.py [--trials 10000] [--more 60] [--samplers random nsga2 tpe merge_gp]

Recipes of three parents of the zoo in about 40 genes, two objectives, scored by a formula in microseconds
(InstantWorker), SQLite. A study of 200 trials is copied within its tables until it has TRIALS, and then run
for MORE trials. A trial's bookkeeping is ask and tell together: proposal, genes, repeats, ledger, study.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import sqlalchemy as sa
from markdown_tables import table_head, table_row
from zoo_studies import ENGINE, objectives

from recipesearch.plan import Plan, read_plan
from recipesearch.search.run import run
from recipesearch.study.results import open_results
from recipesearch.study.storage import Database
from recipesearch.study.study import Study
from recipesearch.workers.instant import InstantWorker

FIRST = 200
SPACE = {
    "methods": ["linear", "ties"],
    "layer_groups": 4,
    "own": ["embed", "head"],
    "filters": ["self_attn", "mlp"],
}


class Clock:
    """The CPU and wall clock seconds of each call of a method."""

    def __init__(self, owner: type, name: str) -> None:
        self.cpu, self.wall = list[float](), list[float]()
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                return method(*arguments, **keywords)
            finally:
                self.cpu.append(time.process_time() - cpu)
                self.wall.append(time.perf_counter() - wall)

        # A class method is looked up on its class, so the new one gets no class.
        bound = isinstance(owner.__dict__[name], classmethod)
        self.patch = mock.patch.object(owner, name, staticmethod(timed) if bound else timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--more", type=int, default=60)
    parser.add_argument("--samplers", nargs="+", default=["random", "nsga2", "tpe", "merge_gp"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(
        table_head(
            "sampler", "genes", "resume, s", "view, s", "CPU p50, ms", "CPU p95", "wall p50", "wall p95"
        )
    )
    for sampler in arguments.samplers:
        with tempfile.TemporaryDirectory() as folder:
            print(table_row(sampler, *_measured(Path(folder), sampler, arguments)), flush=True)


def _measured(folder: Path, sampler: str, arguments: argparse.Namespace) -> list[str]:
    database = Database(_plan(folder, sampler, FIRST).storage_url)
    run(_plan(folder, sampler, FIRST), open_worker=InstantWorker, database=database)
    _grow(database, arguments.trials)
    database.engine.dispose()
    viewed = _seconds(lambda: open_results(Database(database.url)))
    asked, told = Clock(Study, "ask"), Clock(Study, "tell")
    opened = Clock(Study, "open")
    with asked.patch, told.patch, opened.patch, mock.patch.object(Study, "next_in_doubt", return_value=None):
        run(_plan(folder, sampler, arguments.trials + arguments.more), open_worker=InstantWorker)
    genes = len(open_results(Database(database.url))[1].rows[0].genome)
    spent = [
        np.array(one) + np.array(other)
        for one, other in ((asked.cpu[:-1], told.cpu), (asked.wall[:-1], told.wall))
    ]
    times = [f"{1e3 * float(np.quantile(one, q)):.1f}" for one in spent for q in (0.5, 0.95)]
    return [str(genes), f"{opened.wall[0]:.1f}", f"{viewed:.1f}", *times]


def _plan(folder: Path, sampler: str, trials: int) -> Plan:
    document = {
        "name": "long",
        "parents": {name: f"zoo:{name}" for name in ("base", "math", "lang")},
        "base": "base",
        "space": {"weights": SPACE},
        "objectives": objectives(),
        "search": {"sampler": sampler, "trials": trials, "seed": 1},
        "engine": ENGINE,
        "storage": f"sqlite:///{folder / 'long.db'}",
    }
    return read_plan(document, folder, "long")


def _grow(database: Database, trials: int) -> None:
    """Copies the trials and the scores of a study until it has this many trials."""
    tables = sa.MetaData()
    tables.reflect(database.engine)
    with database.engine.begin() as connection:
        rows = {
            name: [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for name, table in tables.tables.items()
        }
        shifts = _Shifts(rows)
        for copy in range(1, -(-trials // len(rows["trials"]))):
            for name, moved in shifts.copied(copy):
                connection.execute(sa.insert(tables.tables[name]), moved)


class _Shifts:
    """The rows of a database, with other keys in each copy."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        self._rows, self._count = rows, len(rows["trials"])
        self._trials = 1 + max(row["trial_id"] for row in rows["trials"])
        self._scores = 1 + max(row["id"] for row in rows["recipesearch_scores"])
        attributes = rows["trial_system_attributes"]
        generations = [int(row["value_json"]) for row in attributes if row["key"].endswith(":generation")]
        self._generations = 1 + max(generations, default=0)

    def copied(self, copy: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The rows of a copy, by table."""
        for name in (
            "trials",
            "trial_params",
            "trial_values",
            "trial_user_attributes",
            "trial_system_attributes",
        ):
            yield name, [self._of_trial(row, name, copy) for row in self._rows[name]]
        yield (
            "study_system_attributes",
            [
                self._parents(row, copy)
                for row in self._rows["study_system_attributes"]
                if row["key"][-1].isdigit()
            ],
        )
        recipes = self._rows["recipesearch_recipes"]
        yield "recipesearch_recipes", [row | {"digest": _renamed(row["digest"], copy)} for row in recipes]
        moved = [row | {"id": row["id"] + copy * self._scores} for row in self._rows["recipesearch_scores"]]
        yield "recipesearch_scores", [row | {"recipe": _renamed(row["recipe"], copy)} for row in moved]
        blocks = self._rows["recipesearch_blocks"]
        yield "recipesearch_blocks", [row | {"score": row["score"] + copy * self._scores} for row in blocks]

    def _of_trial(self, row: dict[str, Any], table: str, copy: int) -> dict[str, Any]:
        own = next(iter(row))  # the row's own key, which the database gives
        moved = {key: value for key, value in row.items() if key != own or table == "trials"}
        moved["trial_id"] = row["trial_id"] + copy * self._trials
        if table == "trials":
            moved["number"] = row["number"] + copy * self._count
        elif row.get("key") == "recipe":
            moved["value_json"] = json.dumps(_renamed(json.loads(row["value_json"]), copy))
        elif str(row.get("key")).endswith(":generation"):
            moved["value_json"] = str(int(row["value_json"]) + copy * self._generations)
        return moved

    def _parents(self, row: dict[str, Any], copy: int) -> dict[str, Any]:
        """The parents of a generation, which Optuna keeps with the study."""
        stem, generation = re.fullmatch(r"(.*?)(\d+)", row["key"]).groups()  # type: ignore[union-attr]
        parents = [key + copy * self._trials for key in json.loads(row["value_json"])]
        key = f"{stem}{int(generation) + copy * self._generations}"
        return {"study_id": row["study_id"], "key": key, "value_json": json.dumps(parents)}


def _renamed(digest: str, copy: int) -> str:
    return f"{copy:04x}{digest[4:]}"


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()

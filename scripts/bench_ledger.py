"""The ledger's size in SQLite, and the seconds to write and read it, for random scores.

    python scripts/bench_ledger.py [--recipes N]

Each recipe has two tasks of 150 items, with exact_match and response_length. Recipes have no YAML here, which
takes a kilobyte or so. The earlier ledger, with a row per item, is rebuilt for a tenth of the recipes, and
then converted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from markdown_tables import table_head, table_row

from recipesearch.score import Conditions, Seconds, TaskScore, mean_of
from recipesearch.study.ledger import Ledger
from recipesearch.study.storage import Database

TASKS, ITEMS = ("a" * 32, "b" * 32), 150
CONDITIONS = Conditions(
    "transformers", "cpu", 2, 64, "mergekit 0.1.5/torch 2.13/lm-eval 0.4.13", "float32", False
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipes", type=int, default=10_000)
    recipes = parser.parse_args().recipes
    with tempfile.TemporaryDirectory() as name:
        few, many = Path(name) / "few.db", Path(name) / "many.db"
        fill(few, recipes // 10)
        rows, converted = size_as_rows(few, recipes // 10)
        commit, ledger = fill(many, recipes)
        print(table_head("figure", "value"))
        print(table_row("bytes per recipe, a row per item", f"{rows:,.0f}"))
        print(table_row("bytes per recipe, blocks", f"{size(many, recipes):,.0f}"))
        print(table_row("one commit", f"{1e3 * commit / recipes:.1f} ms"))
        print(table_row("one score's items", f"{1e3 * seconds(lambda: ledger.items('0', TASKS[0])):.1f} ms"))
        print(table_row("all metrics", f"{seconds(lambda: ledger.all_metrics(TASKS)):.2f} s"))
        print(table_row("all seconds", f"{seconds(lambda: ledger.seconds(TASKS)):.2f} s"))
        print(table_row(f"conversion of {recipes // 10:,} recipes", f"{converted:.1f} s"))


def fill(file: Path, recipes: int) -> tuple[float, Ledger]:
    """The seconds to commit this many recipes, one by one, and their ledger."""
    chance, ledger = random.Random(1), Ledger(Database(f"sqlite:///{file}"), CONDITIONS)
    keys = [f"{place:06d}-{hashlib.sha256(bytes([place])).hexdigest()[:12]}" for place in range(ITEMS)]
    spent = 0.0
    for number in range(recipes):
        scores = [random_score(task, keys, chance) for task in TASKS]
        digest = hashlib.sha256(str(number).encode()).hexdigest() if number else "0"
        spent += seconds(lambda: ledger.commit(digest, "", scores, Seconds(0.5, 7.5)))  # noqa: B023
    return spent, ledger


def random_score(task: str, keys: list[str], chance: random.Random) -> TaskScore:
    """A score between 0.2 and 0.8, of answers of 120 tokens, give or take 40."""
    skill = chance.uniform(0.2, 0.8)
    items = {
        key: {
            "exact_match": float(chance.random() < skill),
            "response_length": float(round(max(1.0, chance.gauss(120, 40)))),
        }
        for key in keys
    }
    metrics = {
        name: mean_of([item[name] for item in items.values()]) for name in ("exact_match", "response_length")
    }
    return TaskScore(task, metrics, items)


def size(file: Path, recipes: int) -> float:
    """The file's bytes per recipe, without those of an empty study database."""
    empty = file.with_name("empty.db")
    fill(empty, 0)
    return (packed_size(file) - packed_size(empty)) / recipes


def packed_size(file: Path) -> int:
    with sa.create_engine(f"sqlite:///{file}").connect() as connection:
        connection.exec_driver_sql("vacuum")
        connection.exec_driver_sql("pragma wal_checkpoint(truncate)")
    return file.stat().st_size


def size_as_rows(file: Path, recipes: int) -> tuple[float, float]:
    """The bytes per recipe once the ledger is as it was, and the seconds of its conversion."""
    database = Database(f"sqlite:///{file}")
    ledger = Ledger(database, CONDITIONS)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            "create table recipesearch_items (score integer not null references recipesearch_scores (id), "
            "item varchar(64) not null, metrics json not null, primary key (score, item))"
        )
        keyed = connection.execute(sa.text("select id, recipe, task from recipesearch_scores")).all()
        for score, recipe, task in keyed:
            rows = [(score, key, json.dumps(metrics)) for key, metrics in ledger.items(recipe, task).items()]
            connection.exec_driver_sql("insert into recipesearch_items values (?, ?, ?)", rows)
        for table in ("blocks", "item_keys"):
            connection.exec_driver_sql(f"delete from recipesearch_{table}")
    return size(file, recipes), seconds(lambda: Ledger(database, CONDITIONS))


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()

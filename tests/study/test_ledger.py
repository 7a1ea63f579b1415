"""The ledger's tables: items come back as they were committed, and databases of earlier versions are kept."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from recipesearch.score import Conditions, Goal, Measurement, Seconds, TaskScore, item_order, mean_of
from recipesearch.study import blocks
from recipesearch.study.blocks import pack, unpack
from recipesearch.study.ledger import Ledger
from recipesearch.study.storage import Database

CONDITIONS = Conditions("transformers", "cpu", 1, 64, "torch x", "float32", False)
ITEMS: dict[str, dict[str, Any]] = {
    "000000-aa": {"acc": 1, "f1": [1, 0.5], "loss": 0.1},
    "000001-bb": {"acc": 1.0, "f1": [], "loss": None},
    "000002-cc": {"acc": True, "note": "größer"},
    "000003-dd": {},
}
# What an earlier version left, word for word.
OLD_TABLES = """
create table recipesearch_recipes (digest varchar(64) primary key, yaml text not null);
create table recipesearch_scores (
    id {serial} primary key, recipe varchar(64) not null references recipesearch_recipes (digest),
    task varchar(64) not null, engine varchar(200) not null, dtype varchar(20) not null,
    chat_template boolean not null, metrics json not null, load_seconds float not null,
    score_seconds float not null, at {time} not null, unique (recipe, task, engine, dtype, chat_template)
);
create table recipesearch_items (
    score integer not null references recipesearch_scores (id), item varchar(64) not null,
    metrics json not null, primary key (score, item)
)
"""
TYPES = {
    "sqlite": {"serial": "integer", "time": "datetime"},
    "postgresql": {"serial": "serial", "time": "timestamp with time zone"},
}


def tables(database: Database) -> set[str]:
    return {name for name in sa.inspect(database.engine).get_table_names() if "recipesearch" in name}


# -- items as compressed columns

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=6))
def test_every_value_of_json_is_unpacked_as_it_was(items: list[dict[str, Any]]) -> None:
    unpacked = unpack(pack(items), len(items))
    assert unpacked == items
    assert [sorted(map(repr, item.items())) for item in unpacked] == [
        sorted(map(repr, item.items())) for item in items
    ], "1, 1.0 and True are equal, but not the same"


def test_items_come_back_in_the_tasks_order(database: Database) -> None:
    ledger = Ledger(database, CONDITIONS)
    score = TaskScore("task", {"acc": Measurement(0.5, 0.1)}, ITEMS)
    ledger.commit("one", "yaml", [score], Seconds(0, 0))
    ledger.commit("other", "yaml", [score], Seconds(0, 0))
    assert list(ledger.items("other", "task").items()) == list(ITEMS.items())
    assert ledger.items("other", "absent") == {}
    with database.engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from recipesearch_item_keys")) == 1


# -- parts of a task

WHOLE = {f"{place:06d}": {"acc": 0.1 * place, "f1": [place, 1]} for place in range(20)}


def part(start: int, stop: int) -> TaskScore:
    """Some of WHOLE's items, as a worker scores them: the aggregate that is no mean is of the whole only."""
    keys = [f"{place:06d}" for place in sorted(item_order("task", 20)[start:stop])]
    items = {key: WHOLE[key] for key in keys}
    metrics = {"acc": mean_of([item["acc"] for item in items.values()])}
    others = {"f1": Measurement(0.75, None)} if len(keys) == 20 else {}
    return TaskScore("task", metrics | others, items, start, 20)


def test_parts_add_up_to_the_whole_bit_for_bit(database: Database) -> None:
    ledger = Ledger(database, CONDITIONS)
    for done in ((0, 7), (7, 8), (8, 20)):
        ledger.commit("recipe", "yaml", [part(*done)], Seconds(1, 2))
        measured = ledger.metrics("recipe", ["task"])["task"]
        assert measured == {"acc": part(0, done[1]).metrics["acc"]}
        assert ledger.known(["task"]) == ledger.known(["task"], "recipe") == {"recipe": {"task": done[1]}}
    assert list(ledger.items("recipe", "task").items()) == list(WHOLE.items())
    assert ledger.seconds(["task"])["recipe"] == Seconds(3, 6)


def test_items_that_are_known_stay_and_cost_nothing(database: Database) -> None:
    ledger = Ledger(database, CONDITIONS)
    ledger.commit("recipe", "yaml", [part(0, 7)], Seconds(1, 2))
    ledger.commit("recipe", "yaml", [part(0, 5)], Seconds(1, 2))
    assert ledger.metrics("recipe", ["task"])["task"] == part(0, 7).metrics
    assert ledger.seconds(["task"])["recipe"] == Seconds(1, 2)
    ledger.commit("recipe", "yaml", [part(3, 9)], Seconds(1, 2))
    assert ledger.metrics("recipe", ["task"])["task"] == part(0, 9).metrics
    assert ledger.known(["task"]) == {"recipe": {"task": 9}}


def test_the_whole_completes_a_part_with_all_its_metrics(database: Database) -> None:
    ledger = Ledger(database, CONDITIONS)
    for recipe, before in (("one", (0, 7)), ("two", (0, 19)), ("three", (0, 20))):
        ledger.commit(recipe, "yaml", [part(*before)], Seconds(1, 2))
        ledger.commit(recipe, "yaml", [part(0, 20)], Seconds(1, 2))
        assert ledger.metrics(recipe, ["task"])["task"] == part(0, 20).metrics
        assert ledger.known(["task"], recipe) == {recipe: {"task": 20}}
    assert ledger.items("two", "task") == WHOLE


def test_a_part_with_a_gap_before_it_is_refused(database: Database) -> None:
    ledger = Ledger(database, CONDITIONS)
    with pytest.raises(ValueError, match="starts at item 7, but only 0 items are known"):
        ledger.commit("recipe", "yaml", [part(7, 9)], Seconds(1, 2))
    assert ledger.metrics("recipe", ["task"]) == {}
    ledger.commit("recipe", "yaml", [part(0, 5)], Seconds(1, 2))
    with pytest.raises(ValueError, match="starts at item 7, but only 5 items are known"):
        ledger.commit("recipe", "yaml", [part(7, 9)], Seconds(1, 2))


def test_a_part_does_not_cover_a_task_and_a_task_without_parts_is_covered_by_any_score(
    database: Database,
) -> None:
    ledger = Ledger(database, CONDITIONS)
    goals = [
        Goal("acc", "task", "acc", hash="task", items=20, pooled=True),
        Goal("f", "python:f", "value", hash="function", items=1),
    ]
    ledger.commit("recipe", "yaml", [part(0, 8)], Seconds(1, 2))
    assert not ledger.covers("recipe", goals, 8), "the function has no score"
    ledger.commit(
        "recipe", "yaml", [TaskScore("function", {"value": Measurement(1, None)}, {})], Seconds(1, 2)
    )
    assert ledger.covers("recipe", goals, 8)
    assert not ledger.covers("recipe", goals, 9)
    assert not ledger.covers("recipe", goals)
    ledger.commit("recipe", "yaml", [part(8, 20)], Seconds(1, 2))
    assert ledger.covers("recipe", goals)
    assert ledger.covers("recipe", goals, 1000)
    assert not ledger.covers("another", goals)


def test_a_score_without_items_has_none_that_are_known(database: Database) -> None:
    ledger = Ledger(database, CONDITIONS)
    ledger.commit(
        "recipe", "yaml", [TaskScore("function", {"value": Measurement(1, None)}, {})], Seconds(0, 0)
    )
    assert ledger.known(["function"]) == {}
    assert ledger.metrics("recipe", ["function"])["function"]["value"].items is None


# -- databases of earlier versions


def fill_old(database: Database) -> None:
    """Two recipes' scores on a task with items, and on a function without."""
    types = TYPES[database.engine.dialect.name]
    with database.engine.begin() as connection:
        for statement in OLD_TABLES.format(**types).split(";"):
            connection.exec_driver_sql(statement)
        for number, recipe in enumerate(("one", "other")):
            insert(connection, "recipes", digest=recipe, yaml=f"yaml of {recipe}")
            for place, task in enumerate(("task", "function")):
                insert(
                    connection,
                    "scores",
                    id=2 * number + place + 1,
                    recipe=recipe,
                    task=task,
                    engine=CONDITIONS.engine,
                    dtype="float32",
                    chat_template=False,
                    metrics=json.dumps({"acc": [0.25 + number, None], "f1": [0.125, 0.1]}),
                    load_seconds=1.5,
                    score_seconds=2.5,
                    at="2026-01-01 00:00:00",
                )
            for key, metrics in reversed(ITEMS.items()):
                insert(connection, "items", score=2 * number + 1, item=key, metrics=json.dumps(metrics))


def insert(connection: sa.Connection, table: str, **row: Any) -> None:
    places = ", ".join(f":{name}" for name in row)
    connection.execute(sa.text(f"insert into recipesearch_{table} ({', '.join(row)}) values ({places})"), row)


def test_a_database_with_a_row_per_item_is_converted_and_reads_as_before(database: Database) -> None:
    fill_old(database)
    database.require_studies(blocks.LAST_TABLES)
    for _ in range(2):
        ledger = Ledger(database, CONDITIONS)
        assert "recipesearch_items" not in tables(database)
        assert list(ledger.items("one", "task").items()) == list(ITEMS.items())
        assert repr(ledger.items("one", "task")["000002-cc"]["acc"]) == "True"
        assert ledger.items("other", "task") == ITEMS
        assert ledger.items("one", "function") == {}
        measured = ledger.metrics("other", ["task", "function"])["task"]
        assert measured == {"acc": Measurement(1.25, None), "f1": Measurement(0.125, 0.1)}
        assert ledger.seconds(["task", "function"])["one"] == Seconds(3.0, 5.0)
        assert ledger.yaml("one") == "yaml of one"
    with database.engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from recipesearch_blocks")) == 2


def test_a_conversion_that_breaks_off_leaves_the_old_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_old(database)
    before, write, calls = tables(database), blocks.write_block, []

    def once(*arguments: Any) -> None:
        write(*arguments)
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(blocks, "write_block", once)
        with pytest.raises(KeyboardInterrupt):
            Ledger(database, CONDITIONS)
    assert tables(database) == before
    assert Ledger(database, CONDITIONS).items("other", "task") == ITEMS

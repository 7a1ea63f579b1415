"""Per-item results as blocks of compressed columns, and the conversion of databases that have a row per item.

A block holds the metrics of several items of one score. Its columns are JSON compressed by zlib: an object
that maps each metric's name to the list of its values, in the items' order, or to an object from place (as
text) to value if some items lack the metric. JSON keeps integers, floats, nulls and lists apart. The items'
keys are the same for all recipes, so each list of keys is stored once, under its digest.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from .storage import METADATA, exclusive, insert_new

Items = Mapping[str, Mapping[str, object]]

_KEYS = sa.Table(
    "recipesearch_item_keys",
    METADATA,
    sa.Column("digest", sa.String(32), primary_key=True),
    sa.Column("packed", sa.LargeBinary, nullable=False),
)

BLOCKS = sa.Table(
    "recipesearch_blocks",
    METADATA,
    sa.Column("score", sa.ForeignKey("recipesearch_scores.id"), primary_key=True),
    sa.Column("start", sa.Integer, primary_key=True),  # the number of items in the score's earlier blocks
    sa.Column("stop", sa.Integer, nullable=False),
    sa.Column("item_keys", sa.ForeignKey("recipesearch_item_keys.digest"), nullable=False),
    sa.Column("packed", sa.LargeBinary, nullable=False),
)

# The table of earlier versions: one row per item.
_ROWS = sa.Table(
    "recipesearch_items",
    sa.MetaData(),
    sa.Column("score", sa.Integer, primary_key=True),
    sa.Column("item", sa.String(64), primary_key=True),
    sa.Column("metrics", sa.JSON, nullable=False),
)

LAST_TABLES = (BLOCKS.name, _ROWS.name)  # the last table created, now and by earlier versions


def write_block(connection: sa.Connection, score: int, start: int, items: Items) -> None:
    """Writes a block of a score's items, by item key; none if there are no items."""
    if not items:  # as for a function that returns one number
        return
    keys = list(items)
    digest = hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:32]
    connection.execute(insert_new(connection, _KEYS).values(digest=digest, packed=_compressed(keys)))
    block = {"score": score, "start": start, "stop": start + len(items), "item_keys": digest}
    connection.execute(sa.insert(BLOCKS).values(**block, packed=pack(list(items.values()))))


def read_items(connection: sa.Connection, score: int | sa.ScalarSelect[int]) -> dict[str, dict[str, object]]:
    """The metrics of all items of a score by item key, in the order of the keys: the task's order."""
    query = sa.select(_KEYS.c.packed, BLOCKS.c.packed).join(_KEYS).where(BLOCKS.c.score == score)
    found: dict[str, dict[str, object]] = {}
    for packed_keys, packed in connection.execute(query):
        keys = _expanded(packed_keys)
        found.update(zip(keys, unpack(packed, len(keys)), strict=True))
    return dict(sorted(found.items()))


def pack(items: Sequence[Mapping[str, object]]) -> bytes:
    """The items' metrics as compressed columns. Raises TypeError for values that are not JSON data."""
    columns: dict[str, dict[int, object]] = {}
    for place, metrics in enumerate(items):
        for name, value in metrics.items():
            columns.setdefault(name, {})[place] = value
    return _compressed(
        {
            name: list(values.values()) if len(values) == len(items) else values
            for name, values in columns.items()
        }
    )


def unpack(packed: bytes, count: int) -> list[dict[str, object]]:
    """The metrics of the ``count`` items that ``pack`` was given."""
    items: list[dict[str, object]] = [{} for _ in range(count)]
    for name, column in _expanded(packed).items():
        for place, value in column.items() if isinstance(column, dict) else enumerate(column):
            items[int(place)][name] = value
    return items


def convert_rows(engine: sa.Engine) -> None:
    """Turns an earlier version's row per item into blocks, in one transaction: a kill leaves all rows."""
    if not sa.inspect(engine).has_table(_ROWS.name):
        return
    with exclusive(engine) as connection:
        if not sa.inspect(connection).has_table(_ROWS.name):  # another process was first
            return
        METADATA.create_all(connection)
        for score in connection.scalars(sa.select(_ROWS.c.score).distinct()).all():
            rows = sa.select(_ROWS).where(_ROWS.c.score == score).order_by(_ROWS.c.item)
            items = {row.item: row.metrics for row in connection.execute(rows)}
            write_block(connection, score, 0, items)
        _ROWS.drop(connection)


def _compressed(value: object) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 9)


def _expanded(packed: bytes) -> Any:
    return json.loads(zlib.decompress(packed))

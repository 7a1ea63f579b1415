"""Plain data as terminal tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from .rows import STDERR, shown


def as_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Flat rows as one table. A value and its ``.stderr`` share a column; empty columns are left out."""
    table = Table(title=escape(title), title_justify="left", header_style="bold")
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = [
        key
        for key in keys
        if any(row.get(key) is not None for row in rows)
        and not (key.endswith(STDERR) and key.removesuffix(STDERR) in keys)
    ]
    if not rows:
        table.add_column("nothing yet")  # a table without columns would not show its title
    for key in columns:
        numeric = all(isinstance(row.get(key), int | float | None) for row in rows)
        # Long names break at their dots.
        table.add_column(
            escape(key).replace(".", ".\n"), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(escape(_cell(row, key)) for key in columns))
    return table


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return shown(value, row.get(key + STDERR)) if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    """The text of a cell: nested data has a line for each entry."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return shown(value)
    if isinstance(value, Mapping):
        if "value" in value:
            rest = [f"{key} {_text(v)}" for key, v in value.items() if key not in ("value", "stderr")]
            return shown(value["value"], value.get("stderr")) + (f" ({', '.join(rest)})" if rest else "")
        return "\n".join(f"{key}: {_text(entry)}" for key, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\n".join(map(_text, value))
    return str(value)

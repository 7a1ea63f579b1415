"""A study's results as plain data, ready for JSON or CSV, and as terminal tables. Light: no plots.

Flat rows name a measurement by its objective: ``NAME`` is the value, ``NAME.stderr`` its standard error,
``held_out.NAME`` and ``held_out.NAME.stderr`` the same on held-out items; None where unknown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from ..plan import Plan
from ..study.results import Results, Row, Values

_STDERR = ".stderr"


def front_rows(results: Results) -> list[dict[str, Any]]:
    """The front by falling first objective: ``trial``, ``seed`` (label or None) and the measurements."""
    return [
        {
            "trial": row.number,
            "seed": row.seed,
            **_flat(results, row.values),
            **_flat(results, row.held_out, "held_out."),
        }
        for row in results.front
    ]


def status_data(plan: Plan, results: Results) -> dict[str, Any]:
    """Where a study stands.

    ``study``, ``wanted`` (recipes to score in all), ``scored``, ``front`` (its size), ``trials``,
    ``repeats``, ``running``, ``waiting``, ``failed``; ``failures``: trials by cause, most frequent first;
    ``best``: for each objective ``objective``, ``maximize``, ``trial``, ``value``, ``stderr`` (empty if
    nothing is scored); ``recipes_per_minute``: of loading and scoring alone, None if nothing is scored.
    """
    repeats = repeated(results)
    states = Counter(row.state for row in results.rows)
    failures = failures_by_cause(results)
    return {
        "study": plan.name,
        "wanted": plan.search.trials,
        "scored": len(results.scored),
        "front": len(results.front),
        "trials": len(results.rows),
        "repeats": len(repeats),
        "running": states["running"],
        "waiting": states["waiting"],
        "failed": sum(failures.values()),
        "failures": failures,
        "best": [_best(results, index) for index in range(len(results.objectives)) if results.scored],
        "recipes_per_minute": _pace(results.scored),
    }


def trial_data(plan: Plan, results: Results, number: int) -> dict[str, Any]:
    """Everything about one trial.

    ``study``, ``trial``, ``state``, ``cause``, ``seed`` (label), ``recipe`` (digest), ``on_front``;
    ``values`` and ``held_out``: ``{objective: {value, stderr}}`` or None; ``seconds``: ``{load, score}`` or
    None; ``genome``; ``yaml``: the mergekit recipe, None unless it was scored. Raises PlanError if there
    is no such trial.
    """
    row = results.row(number)
    return {
        "study": plan.name,
        "trial": row.number,
        "state": row.state,
        "cause": row.cause,
        "seed": row.seed,
        "recipe": row.recipe,
        "on_front": row.recipe is not None and row.recipe in {member.recipe for member in results.front},
        "values": _nested(results, row.values),
        "held_out": _nested(results, row.held_out),
        "seconds": row.seconds and {"load": plain(row.seconds.load), "score": plain(row.seconds.score)},
        "genome": {gene: plain(value) for gene, value in row.genome.items()},
        "yaml": results.ledger.yaml(row.recipe) if row.recipe else None,
    }


def as_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Flat rows as one table. A value and its ``.stderr`` share a column; columns without entries go."""
    table = Table(title=escape(title), title_justify="left", header_style="bold")
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [
        key
        for key in keys
        if any(row.get(key) is not None for row in rows)
        and not (key.endswith(_STDERR) and key.removesuffix(_STDERR) in keys)
    ]
    for key in shown:
        numeric = all(isinstance(row.get(key), int | float | None) for row in rows)
        table.add_column(escape(key), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row, key)) for key in shown))
    return table


def repeated(results: Results) -> set[int]:
    """The numbers of the finished trials whose recipe an earlier trial had already decided."""
    seen: set[str] = set()
    repeats = set()
    for row in results.rows:
        if row.recipe is None or row.state not in ("complete", "fail"):
            continue
        if row.recipe in seen:
            repeats.add(row.number)
        seen.add(row.recipe)
    return repeats


def failures_by_cause(results: Results) -> dict[str, int]:
    """How many trials failed of each cause, most frequent first. A failed recipe's repeats do not count."""
    repeats = repeated(results)
    failed = [row for row in results.rows if row.state == "fail" and row.number not in repeats]
    return dict(Counter(row.cause or "no cause was recorded" for row in failed).most_common())


def shown(value: float | None, stderr: float | None = None) -> str:
    """A measurement for people: ``0.563 ± 0.029``."""
    if value is None:
        return ""
    return f"{value:.3f}" if stderr is None else f"{value:.3f} ± {stderr:.3f}"


def plain(value: Any) -> Any:
    """A gene or a measurement as JSON data: numpy's numbers become Python's, what is not finite None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(results: Results, values: Values | None, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for index, name in enumerate(results.objectives):
        flat[prefix + name] = plain(values[index].value) if values else None
        flat[prefix + name + _STDERR] = plain(values[index].stderr) if values else None
    return flat


def _nested(results: Results, values: Values | None) -> dict[str, Any] | None:
    if values is None:
        return None
    pairs = zip(results.objectives, values, strict=True)
    return {name: {"value": plain(m.value), "stderr": plain(m.stderr)} for name, m in pairs}


def _best(results: Results, index: int) -> dict[str, Any]:
    name = results.objectives[index]
    row = results.best(name)
    assert row.values is not None
    return {
        "objective": name,
        "maximize": results.signs[index] < 0,
        "trial": row.number,
        "value": plain(row.values[index].value),
        "stderr": plain(row.values[index].stderr),
    }


def _pace(scored: Sequence[Row]) -> float | None:
    spent = [row.seconds.load + row.seconds.score for row in scored if row.seconds]
    return round(60 * len(spent) / sum(spent), 1) if sum(spent) > 0 else None


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if isinstance(value, float):
        return shown(value, row.get(key + _STDERR))
    return "" if value is None else str(value)

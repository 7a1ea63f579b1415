"""A sweep as rows and as one offline page with a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_text
from ..search.ratio_sweep import Point


def sweep_rows(points: Sequence[Point], objectives: Sequence[str]) -> list[dict[str, Any]]:
    """A flat row for each ratio: ``ratio``, for each objective ``NAME`` and ``NAME.stderr``, and ``cause``.

    Values of a failed ratio are None; only its row has a ``cause``.
    """
    rows = []
    for point in points:
        row: dict[str, Any] = {"ratio": point.ratio}
        for name in objectives:
            measured = point.values.get(name)
            row[name] = measured.value if measured else None
            row[f"{name}.stderr"] = measured.stderr if measured else None
        rows.append(row | ({"cause": point.cause} if point.cause else {}))
    return rows


def write_figure(points: Sequence[Point], objectives: Sequence[str], title: str, path: Path) -> None:
    """Writes a page with a line for each objective over the ratio, with standard errors. Contains plotly."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for name in objectives:
        measured = [(point.ratio, point.values[name]) for point in points if name in point.values]
        errors = {"type": "data", "array": [m.stderr or 0.0 for _, m in measured]}
        x, y = [ratio for ratio, _ in measured], [m.value for _, m in measured]
        figure.add_trace(Scatter(x=x, y=y, error_y=errors, name=name, mode="lines+markers"))
    figure.update_layout(title=title, xaxis_title="share of the second parent", template="simple_white")
    write_text(path, figure.to_html(include_plotlyjs=True))

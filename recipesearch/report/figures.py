"""The figures of a study's page as plotly's plain data. ``page_template`` contains their style.

The ``customdata`` of points is the index of their recipe in ``Results.scored``. The page's script looks up
hover texts and recipes by this index, so that each is in the page once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from .. import pareto
from ..score import Measurement
from ..study.results import Results, Row
from .rows import plain

Figure = dict[str, Any]
View = tuple[tuple[float, float], tuple[float, float]]  # lower left and upper right corner

_MARKERS = {"type": "scatter", "mode": "markers"}
_SQUEEZED = 0.3  # share of the whole view
_GREY, _BLUE, _AMBER, _RED = "rgba(128,134,145,.45)", "#2f7de1", "#e08700", "#d64550"
# Okabe and Ito's palette, made to be distinguished with any type of colour vision.
_PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7f7f7f")


def objective_labels(results: Results) -> list[str]:
    """The objectives' names as HTML, with an arrow up if higher is better and down if lower is better."""
    arrows = ["↑" if sign < 0 else "↓" for sign in results.signs]
    return [f"{escape(name)} {arrow}" for name, arrow in zip(results.objectives, arrows, strict=True)]


def all_figures(results: Results) -> dict[str, Figure]:
    """All figures by key: ``front-N`` by pair of objectives, ``hypervolume``, ``progress-N`` by objective.

    A ``front-N`` figure also has a ``label`` for the menu of axes.
    """
    figures: dict[str, Figure] = {
        f"front-{index}": figure | {"label": label}
        for index, (label, figure) in enumerate(front_figures(results).items())
    }
    if (hypervolume := hypervolume_figure(results)) is not None:
        figures["hypervolume"] = hypervolume
    for index in range(len(results.objectives)):
        figures[f"progress-{index}"] = progress_figure(results, index)
    return figures


def front_figures(results: Results) -> dict[str, Figure]:
    """The front's figures by label: one for each pair of objectives, or one objective over the trials."""
    labels = objective_labels(results)
    if len(labels) == 1:
        return {labels[0]: _front_figure(results, None, 0)}
    pairs = itertools.combinations(range(len(labels)), 2)
    return {f"{labels[a]} × {labels[b]}": _front_figure(results, a, b) for a, b in pairs}


def progress_figure(results: Results, objective: int) -> Figure:
    """Every trial's value of one objective by merge method, the best value so far, and the failed trials."""
    places = _places(results)
    rows = [row for row in results.rows if row.values and row.recipe]
    methods = {str(row.genome.get("method", "trials")): None for row in rows}
    data = []
    for index, method in enumerate(methods):
        mine = [row for row in rows if str(row.genome.get("method", "trials")) == method]
        points = _points(results, mine, None, objective, places)
        marker = {"color": _PALETTE[index % len(_PALETTE)], "size": _size(rows), "opacity": 0.7}
        data.append(points | _MARKERS | {"name": escape(method), "marker": marker})
    data.append(_running_best(results, objective))
    failed = [row for row in results.rows if row.state == "fail"]
    if failed:
        data.append(_failed(failed))
    return {"data": data, "layout": _layout("trial", objective_labels(results)[objective], 340)}


def hypervolume_figure(results: Results, steps: int = 200) -> Figure | None:
    """The hypervolume of the first n eligible recipes over n, at no more than ``steps`` values of n.

    None for a single objective, whose best value shows the same, and for more objectives than
    ``pareto.MOST_OBJECTIVES``.
    """
    losses = results.losses()
    if not 2 <= losses.shape[1] <= pareto.MOST_OBJECTIVES:
        return None
    steps = min(len(losses), steps if losses.shape[1] < 4 else steps // 10)
    counts = [int(count) for count in np.unique(np.linspace(1, len(losses), steps, dtype=int))]
    line = {
        "x": counts,
        "y": pareto.volumes(losses, counts),
        "type": "scatter",
        "mode": "lines",
        "line": {"shape": "hv", "color": _BLUE, "width": 2},
        "fill": "tozeroy",
        "fillcolor": "rgba(47,125,225,.12)",
        "hovertemplate": "%{x} recipes: %{y:.4f}<extra></extra>",
    }
    layout = _layout("scored recipes", "hypervolume", 300) | {"showlegend": False}
    layout["yaxis"]["rangemode"] = "tozero"
    return {"data": [line], "layout": layout}


def _front_figure(results: Results, across: int | None, up: int) -> Figure:
    """Scored recipes, front and seeds: objective ``up`` over objective ``across`` (None: over the trials)."""
    places, labels = _places(results), objective_labels(results)
    seeds = [row for row in results.scored if row.seed]
    front = _points(results, results.front, across, up, places)
    front |= _errors(results, results.front, across, up, _BLUE)
    seed = _points(results, seeds, across, up, places)
    scored = _points(results, results.scored, across, up, places)
    data = [
        scored | _MARKERS | {"name": "scored", "marker": {"color": _GREY, "size": _size(results.scored)}},
        _running_best(results, up) if across is None else _staircase(results, across, up),
        seed
        | _errors(results, seeds, across, up, _AMBER)
        | _MARKERS
        | {"name": "seeds", "meta": "whole", "text": [escape(str(row.seed)) for row in seeds]}
        | {"marker": {"color": _AMBER, "size": 10, "symbol": "diamond"}},
        front
        | _MARKERS
        | {"name": "front ± standard error", "meta": "whole"}
        | {"marker": {"color": _BLUE, "size": 10, "line": {"color": "white", "width": 1}}},
    ]
    layout = _layout("trial" if across is None else labels[across], labels[up], 520)
    views = {"every": _view([scored, front], 0.05), "near": _view([front], 0.2)}
    is_squeezed = across is not None and len(front["x"]) > 2 and _is_squeezed(views["every"], views["near"])
    return {"data": data, "layout": layout, "views": views, "start": "near" if is_squeezed else "every"}


def _is_squeezed(every: View, near: View) -> bool:
    """Whether the front fills little of the whole view: parents can be very bad at each other's task."""
    return bool((np.ptp(near, axis=0) < _SQUEEZED * np.ptp(every, axis=0)).any())


def _view(traces: Sequence[Figure], margin: float) -> View:
    """The view of these points and their error bars, with a ``margin`` as a share of their range."""
    spans = []
    for axis in ("x", "y"):
        at = np.concatenate([trace[axis] for trace in traces])
        error = np.concatenate(
            [trace.get(f"error_{axis}", {}).get("array", np.zeros(len(trace[axis]))) for trace in traces]
        )
        low, high = float((at - error).min()), float((at + error).max())
        space = margin * (high - low) or 0.5
        spans.append((_short(low - space), _short(high + space)))
    return (spans[0][0], spans[1][0]), (spans[0][1], spans[1][1])


def _staircase(results: Results, across: int, up: int) -> Figure:
    """The line along the front in two objectives. With more objectives some members are behind the line."""
    corners: list[Row] = []
    by_loss = sorted(results.front, key=lambda row: (results.loss(row)[across], results.loss(row)[up]))
    for row in by_loss:
        if not corners or results.loss(row)[up] < results.loss(corners[-1])[up]:
            corners.append(row)
    points = _points(results, corners, across, up, _places(results))
    return points | _line()


def _running_best(results: Results, objective: int) -> Figure:
    losses = results.losses()[:, objective]
    best = np.minimum.accumulate(losses) * results.signs[objective]
    better = np.flatnonzero(np.diff(best, prepend=np.nan) != 0)
    numbers = [results.eligible[i].number for i in better]
    x, y = [*numbers, results.rows[-1].number], [*(_short(best[i]) for i in better), _short(best[-1])]
    return {"x": x, "y": y, "name": "best so far"} | _line()


def _failed(rows: Sequence[Row]) -> Figure:
    """Crosses along the bottom of the figure, on an axis of their own that is independent of the values."""
    return {
        "x": [row.number for row in rows],
        "y": [0.0] * len(rows),
        "yaxis": "y2",
        "text": [f"trial {row.number} failed: {escape((row.cause or '')[:120])}" for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "name": "failed",
        "marker": {"color": _RED, "size": 6, "symbol": "x-thin", "line": {"color": _RED, "width": 1.5}},
    } | _MARKERS


def _points(
    results: Results, rows: Sequence[Row], across: int | None, up: int, places: dict[str, int]
) -> Figure:
    return {
        "x": [row.number if across is None else _short(_measured(row, across).value) for row in rows],
        "y": [_short(_measured(row, up).value) for row in rows],
        "customdata": [places[row.recipe] for row in rows if row.recipe],
    }


def _errors(results: Results, rows: Sequence[Row], across: int | None, up: int, color: str) -> Figure:
    bars: Figure = {}
    for name, objective in (("error_x", across), ("error_y", up)):
        if objective is not None:
            errors = [_short(_measured(row, objective).stderr or 0.0) for row in rows]
            bars[name] = {"type": "data", "array": errors, "color": color, "thickness": 1.2, "width": 3}
    return bars


def _measured(row: Row, objective: int) -> Measurement:
    assert row.values is not None
    return row.values[objective]


def _places(results: Results) -> dict[str, int]:
    return {row.recipe: index for index, row in enumerate(results.scored) if row.recipe}


def _size(rows: Sequence[Row]) -> int:
    return 6 if len(rows) < 2000 else 4


def _line() -> Figure:
    line = {"shape": "hv", "color": _BLUE, "width": 1.5}
    return {"type": "scatter", "mode": "lines", "line": line, "hoverinfo": "skip", "showlegend": False}


def _layout(across: str, up: str, height: int) -> Figure:
    return {
        "height": height,
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": up}},
        "yaxis2": {"overlaying": "y", "range": [-0.02, 1], "visible": False, "fixedrange": True},
    }


def _short(value: float) -> float:
    """The value with six digits: more would only enlarge the page."""
    return float(f"{plain(value):.6g}")

"""The figure of a lineage as plotly's plain data: eras from left to right, each model a point.

Plotly parses hover texts and labels as HTML, so names from studies are escaped there.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from statistics import fmean
from typing import Any

from ..analysis.trace import Lineage, Node
from .lineage_tree import percent, scores

Figure = dict[str, Any]
Places = Mapping[str, tuple[float, float]]

_KINDS = {  # colours of Okabe and Ito's palette, made for any type of colour vision
    "initial": ("initial parents", "#7f7f7f", "square"),
    "merge": ("merges", "#0072b2", "circle"),
    "mutant": ("mutants", "#d55e00", "diamond"),
}
_WIDEST = 8  # pixels: the width of an edge with a share of 1
_LINE = "rgba(128,134,145,.55)"


def lineage_figure(lineage: Lineage) -> Figure:
    """The graph. An edge's width is proportional to the parent's share; details are in hover texts."""
    columns = _columns(lineage)
    places = _places(lineage, columns)
    rows = max(len([d for d in columns if columns[d] == column]) for column in columns.values())
    return {
        "data": [*_edges(lineage, places), _shares(lineage, places), *_points(lineage, places)],
        "layout": {
            "height": 160 + 52 * rows,
            "xaxis": _axis(lineage, columns),
            "yaxis": {"visible": False, "range": [-rows / 2 - 0.4, rows / 2 + 0.4]},
        },
    }


def _columns(lineage: Lineage) -> dict[str, int]:
    """Each model's column. Columns are sorted by era; within an era, a model is right of its parents."""
    order: dict[str, tuple[int, int]] = {}
    for digest in lineage.family.oldest_first:
        era = lineage.nodes[digest].era
        within = [order[edge.parent] for edge in lineage.family.made_of(digest)]
        order[digest] = (era, max((depth + 1 for at, depth in within if at == era), default=0))
    numbers = {key: column for column, key in enumerate(sorted(set(order.values())))}
    return {digest: numbers[key] for digest, key in order.items()}


def _places(lineage: Lineage, columns: Mapping[str, int]) -> Places:
    """Each model's x and y. Within a column, models are sorted by the mean height of their parents."""
    places: dict[str, tuple[float, float]] = {}
    for column in range(max(columns.values()) + 1):
        mine = [digest for digest in lineage.nodes if columns[digest] == column]
        heights = {
            d: fmean([places[e.parent][1] for e in lineage.family.made_of(d) if e.parent in places] or [0.0])
            for d in mine
        }
        for row, digest in enumerate(sorted(mine, key=heights.__getitem__)):
            places[digest] = (float(column), row - (len(mine) - 1) / 2)
    return places


def _axis(lineage: Lineage, columns: Mapping[str, int]) -> Figure:
    """The x axis with the columns' names: the initial parents, then the eras and their mutants."""
    names: dict[int, str] = {}
    for digest, column in columns.items():
        node = lineage.nodes[digest]
        era, what = (f"era {node.era}", "mutants") if node.era else ("parents", "variants")
        names[column] = f"{era}: {what}" if node.kind == "mutant" else era
    ticks = sorted(names)
    return {
        "tickvals": ticks,
        "ticktext": [names[tick] for tick in ticks],
        "range": [-0.6, len(ticks) - 0.4],
        "showgrid": False,
    }


def _edges(lineage: Lineage, places: Places) -> list[Figure]:
    """The edges, one trace for each width: a plotly line has a single width."""
    by_width: dict[int, Figure] = {}
    for edge in lineage.family.edges:
        width = max(1, round(_WIDEST * edge.share))
        line = {"color": _LINE, "width": width, "dash": "dot" if edge.share == 0 else "solid"}
        key = width if edge.share else 0
        trace = by_width.setdefault(key, _trace("lines", x=[], y=[], line=line, hoverinfo="skip"))
        one, other = places[edge.parent], places[edge.child]
        trace["x"] += [one[0], other[0], None]
        trace["y"] += [one[1], other[1], None]
    return list(by_width.values())


def _shares(lineage: Lineage, places: Places) -> Figure:
    """Invisible points at the middle of each edge, for the hover text of the edge."""
    middles = [
        tuple((a + b) / 2 for a, b in zip(places[e.parent], places[e.child], strict=True))
        for e in lineage.family.edges
    ]
    titles = {digest: escape(node.title) for digest, node in lineage.nodes.items()}
    return _trace(
        "markers",
        x=[x for x, _ in middles],
        y=[y for _, y in middles],
        marker={"size": 14, "opacity": 0},
        text=[f"{percent(e.share)} of {titles[e.child]}: {titles[e.parent]}" for e in lineage.family.edges],
        hovertemplate="%{text}<extra></extra>",
    )


def _points(lineage: Lineage, places: Places) -> list[Figure]:
    traces = []
    for kind, (name, color, symbol) in _KINDS.items():
        nodes = [node for node in lineage.nodes.values() if node.kind == kind]
        if nodes:
            size = [18 if node is lineage.root else 13 for node in nodes]
            traces.append(
                _trace(
                    "markers+text",
                    name=name,
                    x=[places[node.digest][0] for node in nodes],
                    y=[places[node.digest][1] for node in nodes],
                    marker={"color": color, "symbol": symbol, "size": size, "opacity": 1},
                    text=[escape(_mark(node)) for node in nodes],
                    textposition="bottom center",
                    customdata=[_hover(node) for node in nodes],
                    hovertemplate="%{customdata}<extra></extra>",
                    showlegend=True,
                )
            )
    return traces


def _mark(node: Node) -> str:
    """The label of a point. The era is left out, since the column shows the era."""
    if node.kind == "initial" or node.trial is None:
        return node.title
    return f"trial {node.trial}" if node.kind == "merge" else f"mutant of {node.trial}"


def _hover(node: Node) -> str:
    lines = [f"<b>{escape(node.label)}</b>", *map(escape, scores(node).split(", "))]
    record = node.mutation or {}
    if settings := record.get("settings"):
        lines += [escape(f"{key}: {value}") for key, value in settings.items()]
    if reason := record.get("reason"):
        lines.append(escape(str(reason)))
    return "<br>".join([line for line in lines if line] + [f"<i>{node.digest[:16]}</i>"])


def _trace(mode: str, **content: Any) -> Figure:
    return {"type": "scatter", "mode": mode, "showlegend": False, "cliponaxis": False, **content}

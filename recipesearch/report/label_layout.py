"""Finds places for text labels beside their points, clear of each other and of the points that matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, right, low, high

_WIDTH, _HEIGHT = 880.0, 400.0  # a figure's plotting area, about, in pixels
_CHARACTER, _LINE, _MARKER = 6.5, 18.0, 16.0
_DISTANCES = (22.0, 40.0, 64.0, 92.0)
_DIRECTIONS = [(1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)]


def place_labels(
    texts: Sequence[str], anchors: Sequence[Point], others: Sequence[Point], view: tuple[Point, Point]
) -> list[dict[str, Any]]:
    """Plotly annotations for ``texts`` at ``anchors``. Greedy: for each, the first of the best places.

    ``view`` is the lower left and the upper right corner of what is shown; who lies outside has no label.
    """
    pixels = [_to_pixels(point, view) for point in (*anchors, *others)]
    taken = [_around(point, _MARKER, _MARKER) for point in pixels]
    annotations = []
    for text, anchor, point in zip(texts, anchors, pixels, strict=False):
        if not (0 <= point[0] <= _WIDTH and 0 <= point[1] <= _HEIGHT):
            continue
        rivals = [other for other in pixels[: len(texts)] if other != point]
        best = math.inf
        for candidate in _shifts(text):
            moved = point[0] + candidate[0], point[1] + candidate[1]
            candidate_box = _around(moved, _width(text), _LINE)
            cost = _overlap(candidate_box, taken) + _doubt(candidate_box, point, rivals)
            if cost < best:
                best, shift, box = cost, candidate, candidate_box
        taken.append(box)
        annotations.append(_annotation(text, anchor, shift))
    return annotations


def _to_pixels(point: Point, view: tuple[Point, Point]) -> Point:
    low, high = view
    return (
        (point[0] - low[0]) / (high[0] - low[0]) * _WIDTH,
        (point[1] - low[1]) / (high[1] - low[1]) * _HEIGHT,
    )


def _width(text: str) -> float:
    return _CHARACTER * len(text) + 8


def _shifts(text: str) -> list[Point]:
    """From the point to the label's middle, nearest first."""
    half = _width(text) / 2
    return [(right * (far + half), up * far) for far in _DISTANCES for right, up in _DIRECTIONS]


def _around(point: Point, width: float, height: float) -> Box:
    return point[0] - width / 2, point[0] + width / 2, point[1] - height / 2, point[1] + height / 2


def _overlap(box: Box, taken: Sequence[Box]) -> float:
    """The area shared with what is there already; beyond the edge of the figure weighs most."""
    left, right, low, high = box
    outside = max(0.0, -left) + max(0.0, right - _WIDTH) + max(0.0, -low) + max(0.0, high - _HEIGHT)
    return 100 * outside + sum(
        max(0.0, min(right, b[1]) - max(left, b[0])) * max(0.0, min(high, b[3]) - max(low, b[2]))
        for b in taken
    )


def _doubt(box: Box, own: Point, rivals: Sequence[Point]) -> float:
    """A cost for labels that lie nearer to another labelled point than to their own."""
    return 200.0 if any(_distance(box, rival) < _distance(box, own) for rival in rivals) else 0.0


def _distance(box: Box, point: Point) -> float:
    left, right, low, high = box
    across = max(left - point[0], 0.0, point[0] - right)
    up = max(low - point[1], 0.0, point[1] - high)
    return math.hypot(across, up)


def _annotation(text: str, anchor: Point, shift: Point) -> dict[str, Any]:
    return {
        "text": text,
        "x": anchor[0],
        "y": anchor[1],
        "ax": round(shift[0]),
        "ay": -round(shift[1]),
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 1,
        "standoff": 6,
        "font": {"size": 12},
    }

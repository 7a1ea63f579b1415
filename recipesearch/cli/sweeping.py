"""sweep: from one parent to another, as a table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import PlanError
from ..plan import load_plan
from .output import note, out, print_json


def sweep(
    path: Path,
    pair: tuple[str, str],
    method: str,
    steps: int,
    overrides: Sequence[str],
    html: Path | None,
    as_json: bool,
) -> None:
    """Scores the merges between two parents and prints them as they come."""
    plan = load_plan(path, overrides)
    if steps < 1:
        raise PlanError("--steps: give at least one")
    from ..search.ratio_sweep import sweep as score_between

    ratios = [round(step / (steps + 1), 4) for step in range(1, steps + 1)]
    points = []
    for point in score_between(plan, pair, ratios, method):
        points.append(point)
        note(
            f"{len(points)} of {steps}: ratio {point.ratio:g}"
            + (f" failed: {point.cause}" * bool(point.cause))
        )
    from ..report.sweep_report import sweep_rows, write_figure
    from ..report.tables import as_table

    objectives = [goal.name for goal in plan.goals]
    rows, title = sweep_rows(points, objectives), f"{method}: from {pair[0]} (0) to {pair[1]} (1)"
    if as_json:
        print_json(rows)
    else:
        out.print(as_table(title, rows))
    if html is not None:
        write_figure(points, objectives, title, html)
        note(f"wrote {html}")

"""sweep: merges of two parents at several ratios, as a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, Overrides, PlanFile, app
from .output import note, out, print_json


@app.command()
def sweep(
    plan: PlanFile,
    between: Annotated[tuple[str, str], typer.Option("--between", metavar="ONE OTHER", help="Two parents.")],
    method: Annotated[str, typer.Option(help="A merge method that has a ratio or weights.")] = "linear",
    steps: Annotated[int, typer.Option(min=1, help="The number of ratios; 9 gives 0.1 to 0.9.")] = 9,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the plot as a page for offline use.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Merge two parents at several ratios and score each merge."""
    from ..plan import load_plan
    from ..report.sweep_report import sweep_rows, write_figure
    from ..report.tables import as_table
    from ..search.ratio_sweep import sweep as score_between

    study = load_plan(plan, overrides or [])
    ratios = [round(step / (steps + 1), 4) for step in range(1, steps + 1)]
    points = []
    for point in score_between(study, between, ratios, method):
        points.append(point)
        failed = f" failed: {point.cause}" if point.cause else ""
        note(f"{len(points)} of {steps}: ratio {point.ratio:g}{failed}")
    objectives = [goal.name for goal in study.goals]
    rows, title = sweep_rows(points, objectives), f"{method}: from {between[0]} (0) to {between[1]} (1)"
    if as_json:
        print_json(rows)
    else:
        out.print(as_table(title, rows))
    if html is not None:
        write_figure(points, objectives, title, html)
        note(f"wrote {html}")

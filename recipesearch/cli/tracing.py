"""lineage: what a trial goes back to, as a tree, as JSON, as a page."""

from __future__ import annotations

from pathlib import Path

from .output import line, note, out, print_json
from .viewing import open_study


def lineage(study: str, trial: int | None, html: Path | None, as_json: bool) -> None:
    """The lineage of a trial, unless named of the knee."""
    from ..analysis.trace import trace
    from ..check.members import open_preflight
    from ..report.lineage_tree import tree, tree_text

    plan, results = open_study(study)
    row = results.row(trial) if trial is not None else results.knee()
    found = trace(open_preflight(plan), results, row)
    if as_json:
        print_json(found.data())
    elif out.is_terminal:
        out.print(tree(found))
    else:  # a file's lines may be as long as they are
        line(tree_text(found))
    if html is not None:
        from ..report.lineage_page import write_lineage

        write_lineage(found, html)
        note(f"wrote {html}")

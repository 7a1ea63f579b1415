"""lineage: the ancestors of a trial's recipe, as a tree, as JSON, as a page."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import AsJson, Html, StudyName, app
from .output import line, note, out, print_json


@app.command()
def lineage(
    study: StudyName,
    trial: Annotated[
        int | None, typer.Option(help="Trial to trace (default: the knee of the front).")
    ] = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Show a recipe's ancestors over all eras, with shares, scores and the training of mutants."""
    from .. import api
    from ..analysis.trace import trace
    from ..checking.members import open_preflight
    from ..report.lineage_tree import tree, tree_text

    view = api.open(study)
    checked = open_preflight(view.plan, view.results.database)
    found = trace(checked, view.results, view.chosen(trial))
    if as_json:
        print_json(found.data())
    elif out.is_terminal:
        out.print(tree(found))
    else:  # do not wrap lines in a file
        line(tree_text(found))
    if html is not None:
        from ..report.lineage_page import write_lineage

        write_lineage(found, html)
        note(f"wrote {html}")

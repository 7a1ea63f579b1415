"""export, merge, verify: from a found recipe to a model, and the proof that it is the scored model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, RecipeFile, StudyName, app
from .output import line, note, print_json


@app.command()
def export(
    study: StudyName,
    folder: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    trial: Annotated[int | None, typer.Option(help="Export this trial.")] = None,
    best: Annotated[
        str | None, typer.Option(metavar="OBJECTIVE", help="Export the best recipe in this objective.")
    ] = None,
    knee: Annotated[bool, typer.Option("--knee", help="Export the knee of the front (default).")] = False,
    front: Annotated[
        bool, typer.Option("--front", help="Export every recipe of the front, each into its own folder.")
    ] = False,
    portable: Annotated[
        bool,
        typer.Option("--portable", help="Name parents as in the study file instead of by absolute path."),
    ] = False,
) -> None:
    """Write a trial's recipe as mergekit YAML with provenance, and a model card."""
    from .. import api
    from ..errors import PlanError

    if sum((trial is not None, best is not None, knee, front)) > 1:
        raise PlanError("choose one of --trial, --best, --knee and --front")
    view = api.open(study)
    if not front:
        line(api.export(view, folder, trial, best, portable=portable))
        return
    view.results.require_scores()
    for row in view.results.front:
        line(api.export(view, folder / f"trial-{row.number}", row.number, portable=portable))


@app.command()
def merge(
    recipe: RecipeFile,
    folder: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
) -> None:
    """Build a recipe's model as a folder of safetensors."""
    from .. import api

    api.merge(recipe, folder)
    line(folder)


@app.command()
def verify(recipe: RecipeFile, as_json: AsJson = False) -> None:
    """Rebuild a recipe with stock mergekit, compare every tensor, and score the rebuilt model again."""
    from .. import api

    proof = api.verify(recipe)
    if as_json:
        print_json({"command": proof.command, "tensors": proof.tensors, "scores": dict(proof.scores)})
        return
    line(proof.command)
    line(f"verified: all {proof.tensors} tensors are identical to stock mergekit's")
    if proof.scores:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in proof.scores.items())
        line(f"verified: the rebuilt model scores the same: {scores}")
    else:
        note("the recipe contains no scores, so none were compared")

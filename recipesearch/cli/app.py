"""The Typer application, and the arguments that several commands share. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import __version__

app = typer.Typer(
    name="recipesearch",
    help="Search for model-merge recipes: evolve them, score them live, rebuild the best ones exactly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="The study file (YAML).")]
StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="The study file (FILE#ERA for one era), a SQLite file or a storage URL (#NAME for one study).",
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write an interactive page for offline use.")]
Trial = Annotated[int, typer.Argument(metavar="TRIAL", help="The trial's number.")]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A mergekit YAML file.")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)

"""The commands, their arguments and their help. Each imports its work when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import __version__

app = typer.Typer(
    name="recipesearch",
    help="Search for model-merge recipes: evolve them, score them live, rebuild the winners exactly.",
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
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A mergekit YAML file.")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("runs/demo"),
    setting: Settings = None,
) -> None:
    """Train the zoo, search it, show the front against the parents, export the winner, prove the export."""
    from .searching import demo

    demo(out, setting or [])


@app.command()
def init(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The file to write.")] = Path("study.yaml"),
) -> None:
    """Write a commented study file to start from."""
    from .searching import init

    init(plan)


@app.command()
def check(
    plan: PlanFile,
    setting: Settings = None,
    as_json: AsJson = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Against recorded configs (configs/ORG/NAME.json): no weights.")
    ] = False,
) -> None:
    """Check a study before anything is merged: parents, space, sampler, tasks, memory and disk."""
    from .searching import check

    check(plan, setting or [], as_json, offline)


@app.command()
def run(plan: PlanFile, setting: Settings = None, as_json: AsJson = False) -> None:
    """Create or resume a study, up to search.trials scored recipes; with eras, in each of them."""
    from .searching import run

    run(plan, setting or [], as_json)


@app.command()
def sweep(
    plan: PlanFile,
    between: Annotated[tuple[str, str], typer.Option("--between", metavar="ONE OTHER", help="Two parents.")],
    method: Annotated[str, typer.Option(help="A merge method with a ratio or weights.")] = "linear",
    steps: Annotated[int, typer.Option(help="How many ratios; 9 are 0.1 to 0.9.")] = 9,
    html: Annotated[Path | None, typer.Option("--html", help="Write the plot as one offline page.")] = None,
    setting: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Score the merges of two parents at ratios from one to the other."""
    from .sweeping import sweep

    sweep(plan, between, method, steps, setting or [], html, as_json)


@app.command()
def status(study: StudyName, as_json: AsJson = False) -> None:
    """Show how far a study is, its best values, why candidates failed, and what was bred."""
    from .viewing import status

    status(study, as_json)


@app.command()
def front(
    study: StudyName,
    html: Annotated[Path | None, typer.Option("--html", help="Write one offline interactive page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the Pareto front with standard errors and held-out scores."""
    from .viewing import front

    front(study, html, as_json)


@app.command()
def diversity(study: StudyName, as_json: AsJson = False) -> None:
    """Show how different the recipes of each generation are, and which parents the front owes its volume."""
    from .viewing import diversity

    diversity(study, as_json)


@app.command()
def show(
    study: StudyName,
    trial: Annotated[int, typer.Argument(help="The trial's number.")],
    as_json: AsJson = False,
) -> None:
    """Show one trial: its scores, its genome and its recipe."""
    from .viewing import show

    show(study, trial, as_json)


@app.command()
def lineage(
    study: StudyName,
    trial: Annotated[int | None, typer.Option(help="This trial's; default: the best compromise's.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Draw it, as one offline page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a recipe goes back to, over all eras: its parents, theirs, and how mutants were trained."""
    from .tracing import lineage

    lineage(study, trial, html, as_json)


@app.command()
def mutate(
    study: StudyName,
    trial: Annotated[int, typer.Option(help="The trial whose recipe is fine-tuned.")],
    preference: Annotated[
        list[str] | None, typer.Option(help="A task, or JSON lines of pairs; in the place of the file's.")
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE,...", help="One mutant for each value of a setting.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of 'mutation'.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a found recipe's model, by DPO or SFT, into a new parent, and judge it by what it was."""
    from .mutating import mutate

    mutate(study, trial, setting or [], preference or [], sweep, as_json)


@app.command()
def export(
    study: StudyName,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    trial: Annotated[int | None, typer.Option(help="Export this trial.")] = None,
    best: Annotated[str | None, typer.Option(metavar="OBJECTIVE", help="Export the best in it.")] = None,
    knee: Annotated[bool, typer.Option("--knee", help="Export the best compromise (the default).")] = False,
    front: Annotated[bool, typer.Option("--front", help="Export the whole front, a folder each.")] = False,
    portable: Annotated[
        bool, typer.Option("--portable", help="Name parents as the study file does, not by absolute path.")
    ] = False,
) -> None:
    """Write mergekit YAML with provenance, and a model card."""
    from .recipes import export

    export(study, out, trial=trial, best=best, knee=knee, front=front, portable=portable)


@app.command()
def merge(
    recipe: RecipeFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write.")],
) -> None:
    """Build a recipe's model as a folder of safetensors."""
    from .recipes import merge

    merge(recipe, out)


@app.command()
def verify(recipe: RecipeFile, as_json: AsJson = False) -> None:
    """Rebuild a recipe with stock mergekit, compare every tensor, score the result again."""
    from .recipes import verify

    verify(recipe, as_json)


@app.command()
def zoo(
    directory: Annotated[
        Path | None, typer.Argument(help="Where to; default: the cache, for zoo: names.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The zoo's seed.")] = 0,
) -> None:
    """Train the tiny model family that demo, tests and benchmarks use (a minute)."""
    from .searching import zoo

    zoo(directory, seed)

"""demo, init, check, run, zoo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from .app import AsJson, Overrides, PlanFile, app
from .output import line, note, out, print_json, search_progress


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("runs/demo"),
    overrides: Overrides = None,
) -> None:
    """Train the zoo, search it, show the front and the parents, export the winner, verify the export."""
    from .. import api
    from ..files import write_text
    from ..zoo import build_zoo
    from .recipes import verify
    from .viewing import print_front, print_seeds

    note("training the zoo's three tiny models unless they exist (about a minute)")
    build_zoo(report=note)
    folder.mkdir(parents=True, exist_ok=True)
    study_file = folder / "demo.yaml"
    write_text(study_file, files("recipesearch.cli").joinpath("demo.yaml").read_text("utf-8"))
    plans = api.load(study_file, overrides or [])
    note(f"searching: {plans[0].search.trials} recipes of {' and '.join(plans[0].parents)}")
    with search_progress() as observe:
        study = api.run(plans, observe)
    print_seeds(study)
    print_front(study, folder / "front.html")
    recipe = api.export(study, folder / "winner")
    line(recipe)
    note("verifying: stock mergekit rebuilds the winner in a process of its own")
    verify(recipe)


@app.command()
def init(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The file to write.")] = Path("study.yaml"),
) -> None:
    """Write a commented study file as a starting point."""
    from ..errors import PlanError
    from ..files import write_text

    if plan.exists():
        raise PlanError(f"{plan} exists already; name another file")
    write_text(plan, files("recipesearch.cli").joinpath("template.yaml").read_text("utf-8"))
    note(f"wrote {plan}; edit it, then: recipesearch check {plan}")


@app.command()
def check(plan: PlanFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a study before anything is merged: parents, space, sampler, tasks, memory and disk."""
    from .. import api
    from ..report.tables import as_table

    plans = api.load(plan, overrides or [])
    needs = api.check(plans)
    if as_json:
        print_json(needs)
        return
    first = plans[0]
    single = len(plans) == 1 or first.evolves
    for name, data in ({first.whole_name: needs} if single else needs).items():
        title = name if single else f"{first.whole_name}.{name}"
        out.print(
            as_table(
                f"study {title}: ready to run", [{"": key, "value": value} for key, value in _flat(data)]
            )
        )


@app.command()
def run(
    plan: PlanFile,
    overrides: Overrides = None,
    as_json: AsJson = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Score on the machines of a Ray cluster: HOST:PORT, or auto for this machine's cluster.",
        ),
    ] = None,
) -> None:
    """Create or resume a study until search.trials recipes are scored (in each era, if there are eras)."""
    from .. import api
    from .viewing import print_front

    with search_progress() as observe:
        study = api.run(api.load(plan, overrides or []), observe, ray)
    print_front(study, None, as_json)


@app.command()
def zoo(
    directory: Annotated[
        Path | None, typer.Argument(help="The folder to write (default: the cache, for zoo: names).")
    ] = None,
    seed: Annotated[int, typer.Option(help="The zoo's seed.")] = 0,
) -> None:
    """Train the tiny model family for demo, tests and benchmarks (about a minute)."""
    from ..zoo import build_zoo

    line(build_zoo(seed, directory, note))


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested data as (key, value) lines; a nested key is prefixed with its parent keys."""
    for key, value in data.items():
        name = prefix + key.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        else:
            yield name, str(value)

"""status, front, diversity, show: a study's results, as tables or JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .app import AsJson, Html, StudyName, Trial, app
from .output import line, note, out, print_json

if TYPE_CHECKING:
    from ..analysis.generations import Convergence
    from ..report.study_view import StudyView
    from ..space.kinds import Space


@app.command()
def status(study: StudyName, as_json: AsJson = False) -> None:
    """Show a study's progress, its best values, the causes of failures, its parents and its mutants."""
    from .. import api
    from ..report.tables import as_table
    from ..study.chain import judged, origins

    view = api.open(study)
    data = view.status() | {"parents": origins(view.plan, view.results)}
    mutants = judged(view.results.database, view.plan)
    if as_json:
        print_json(data | {"mutants": mutants})
        return
    rows = [{"": key.replace("_", " "), "value": value} for key, value in data.items()]
    out.print(as_table(f"study {view.plan.name}", rows))
    if mutants:
        verdicts = [m | {"accepted": "accepted" if m["accepted"] else "rejected"} for m in mutants]
        out.print(as_table("mutants", verdicts))


@app.command()
def front(study: StudyName, html: Html = None, as_json: AsJson = False) -> None:
    """Show the Pareto front with standard errors and held-out scores."""
    from .. import api

    print_front(api.open(study), html, as_json)


@app.command()
def diversity(study: StudyName, as_json: AsJson = False) -> None:
    """Show the diversity of each generation, and each parent's share of the front's hypervolume."""
    from .. import api
    from ..analysis.credit import hypervolume_by_parent
    from ..analysis.generations import converged, generations
    from ..report.tables import as_table

    view = api.open(study)
    plan, results = view.plan, view.results
    space = _space_at_hand(view)
    history = generations(results, space)
    rows = [{"generation": number, **asdict(generation)} for number, generation in enumerate(history)]
    shares = hypervolume_by_parent(results, space) if space else {}
    verdict = converged(history)
    if as_json:
        print_json(
            {
                "study": plan.name,
                "population": plan.search.population,
                "active_genes": space is not None,
                "generations": rows,
                "hypervolume_by_parent": shares,
                "converged": asdict(verdict) if verdict else None,
            }
        )
        return
    out.print(as_table(f"diversity of {plan.name}: generations of {plan.search.population} trials", rows))
    if shares:
        parents = [{"parent": name, "hypervolume share": share} for name, share in shares.items()]
        out.print(as_table("the front by parent", parents))
    if verdict:
        line(_verdict_text(verdict))


@app.command()
def show(study: StudyName, trial: Trial, as_json: AsJson = False) -> None:
    """Show one trial: its scores, its genome and its recipe."""
    from .. import api
    from ..report.tables import as_table

    view = api.open(study)
    data = view.trial(trial)
    if as_json:
        print_json(data)
        return
    recipe = data.pop("yaml", None)
    rows = [{"": key.replace("_", " "), "value": value} for key, value in data.items()]
    out.print(as_table(f"trial {trial} of {view.plan.name}", rows))
    if recipe:
        line(recipe)


def print_front(view: StudyView, html: Path | None = None, as_json: bool = False) -> None:
    """Prints a study's front as a table or as JSON, and writes a page if ``html`` is given."""
    from ..report.rows import effect_rows
    from ..report.tables import as_table

    rows = view.front()
    if as_json:
        print_json(rows)
    else:
        scored = len(view.results.scored)
        out.print(as_table(f"front of {view.plan.name}: {len(rows)} of {scored} recipes", rows))
        if effects := effect_rows(view.results):
            title = "what was learnt: changes if the front's knee took a place from one parent alone"
            out.print(as_table(title, effects))
    if html is not None:
        from ..report.page import write_page

        write_page(view.plan, view.results, html)
        note(f"wrote {html}")


def print_seeds(view: StudyView) -> None:
    """Prints the seeds of the search: each parent, the uniform average, the methods' defaults."""
    from ..report.rows import seed_rows
    from ..report.tables import as_table

    out.print(as_table("where the search began", seed_rows(view.results)))


def _space_at_hand(view: StudyView) -> Space | None:
    """The study's space; None, with a note, if a parent is missing on this machine or has changed."""
    from ..checking.members import open_preflight
    from ..errors import PlanError, RefusedInput

    try:
        space = open_preflight(view.plan, view.results.database).space
        if {name: p.digest for name, p in space.pool.parents.items()} == view.results.identity["parents"]:
            return space
        why = "a parent has changed since"
    except (PlanError, RefusedInput) as error:
        why = str(error)
    note(f"{why}; so idle genes count too, and the front is not divided among the parents")
    return None


def _verdict_text(found: Convergence) -> str:
    """The verdict as text, with its numbers."""
    return (
        "The search has converged, perhaps too early: two recipes of the last generation differ on "
        f"{found.last:.1%} of the items, two of the first generation on {found.first:.1%}, and the "
        f"hypervolume has not grown for {found.still} generations. Try a larger population, a wider space or "
        "another seed."
    )

"""status, front, diversity, show: what a study found, as tables or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PlanError, RefusedInput, nearest
from ..plan import Plan, load_plans
from ..study.results import Results, open_results
from .output import line, note, out, print_json

if TYPE_CHECKING:
    from ..analysis.generations import Convergence
    from ..space.kinds import Space


def open_study(study: str) -> tuple[Plan, Results]:
    """A study by its study file, its SQLite file or its storage URL, each with ``#name`` if need be.

    Of a study file with eras the last one begun, or the one named: ``FILE#ERA``.
    """
    place, mark, name = study.rpartition("#")
    if not mark or Path(study).exists():
        place, name = study, ""
    if Path(place).suffix in (".yaml", ".yml"):
        return open_planned(load_plans(Path(place)), name or None)
    url = place if "://" in place else f"sqlite:///{Path(place).absolute()}"
    return open_results(url, name or None)


def open_planned(plans: Sequence[Plan], era: str | None = None) -> tuple[Plan, Results]:
    """The study of one era, unless named of the last one begun, as it was begun; its relative paths start
    where the plan lies now."""
    if era is not None:
        names = [str(plan.era) for plan in plans if plan.era]
        if era not in names:
            raise PlanError(f"the study file has no era '{era}': {nearest(era, names or ['no eras at all'])}")
        plans = [plan for plan in plans if plan.era == era]
    from ..study.chain import begun

    plan = next((plan for plan in reversed(plans[1:]) if begun(plan)), plans[0])
    stored, results = open_results(plan.storage_url, plan.name)
    return stored.model_copy(update={"folder": plan.folder}), results


def status(study: str, as_json: bool) -> None:
    """How far the study is, where its parents come from, and what the gate said of its mutants."""
    from ..report.tables import as_table, status_data
    from ..study.chain import judged, origins

    plan, results = open_study(study)
    data = status_data(plan, results) | {"parents": origins(plan, results)}
    mutants = judged(plan)
    if as_json:
        print_json(data | {"mutants": mutants})
        return
    rows = [{"": key.replace("_", " "), "value": value} for key, value in data.items()]
    out.print(as_table(f"study {plan.name}", rows))
    if mutants:
        told = [m | {"accepted": "let in" if m["accepted"] else "turned away"} for m in mutants]
        out.print(as_table("mutants", told))


def front(study: str, html: Path | None, as_json: bool) -> None:
    """The front, as a table, as JSON, and as a page if asked."""
    print_front(*open_study(study), html, as_json)


def print_front(plan: Plan, results: Results, html: Path | None, as_json: bool) -> None:
    """The same for a study that is open already."""
    from ..report.tables import as_table, front_rows

    rows = front_rows(results)
    if as_json:
        print_json(rows)
    else:
        out.print(as_table(f"front of {plan.name}: {len(rows)} of {len(results.scored)} recipes", rows))
    if html is not None:
        from ..report.page import write_page

        write_page(plan, results, html)
        note(f"wrote {html}")


def diversity(study: str, as_json: bool) -> None:
    """Each generation's diversity, the front's hypervolume by parent, and if the search has converged."""
    from ..analysis.credit import hypervolume_by_parent
    from ..analysis.generations import converged, generations
    from ..report.tables import as_table

    plan, results = open_study(study)
    space = _space_at_hand(plan, results)
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
        line(_said(verdict))


def _space_at_hand(plan: Plan, results: Results) -> Space | None:
    """The study's space; None, with a note, where its parents are not here as they were: a database can be
    looked at anywhere."""
    from ..check.members import open_preflight

    try:
        space = open_preflight(plan).space
        if {name: p.digest for name, p in space.pool.parents.items()} == results.identity["parents"]:
            return space
        why = "a parent has changed since"
    except (PlanError, RefusedInput) as error:
        why = str(error)
    note(f"{why}; so idle genes count too, and nothing is divided by parent")
    return None


def _said(found: Convergence) -> str:
    """The verdict in words, with its numbers."""
    return (
        "The search has converged, perhaps too early: two recipes of the last generation differ on "
        f"{found.last:.1%} of the items, of the first one on {found.first:.1%}, and the hypervolume has "
        f"not grown for {found.still} generations. A larger population, a wider space or another seed may "
        "find more."
    )


def show(study: str, trial: int, as_json: bool) -> None:
    """One trial, whole."""
    from ..report.tables import as_table, trial_data

    plan, results = open_study(study)
    data = trial_data(plan, results, trial)
    if as_json:
        print_json(data)
        return
    recipe = data.pop("yaml", None)
    rows = [{"": key.replace("_", " "), "value": value} for key, value in data.items()]
    out.print(as_table(f"trial {trial} of {plan.name}", rows))
    if recipe:
        line(recipe)


def print_seeds(results: Results) -> None:
    """What the search began from: each parent, the uniform average, the methods' defaults."""
    from ..report.tables import as_table, seed_rows

    out.print(as_table("where the search began", seed_rows(results)))

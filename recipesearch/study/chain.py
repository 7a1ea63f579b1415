"""A study and its earlier eras: results, origins of the parents, decisions of the gate. Light."""

from __future__ import annotations

from typing import Any

from ..errors import StudyError
from ..plan import FRONT, Plan
from .identity import Identity
from .mutants import Mutant, Mutants
from .results import Results, open_results, open_stored
from .storage import Database


def begun(database: Database, plan: Plan) -> bool:
    """Whether the plan's study is in the database."""
    return stored_plan(database, plan) is not None


def stored_plan(database: Database, plan: Plan) -> tuple[Plan, Identity] | None:
    """The stored plan and identity of the plan's study; None if the study is not in the database."""
    try:
        return open_stored(database, plan.name)
    except StudyError:  # absent or unreadable; a run reports the cause
        return None


def chain(plan: Plan, results: Results) -> list[tuple[Plan, Results]]:
    """The studies of all eras up to this one, oldest first, with their results; each is read once."""
    found = [(plan, results)]
    while before := found[-1][0].after:
        found.append(open_results(results.database, before))
    return found[::-1]


def origins(plan: Plan, results: Results) -> dict[str, str]:
    """The origin of each parent of a study: a reference of the study file, a trial of an earlier era, a
    mutant of such a trial, or a variant of a parent.

    Reads the database only, and compares the digests with which the study was created.
    """
    variants = plan.mutation.variants if plan.mutation else {}
    digests = results.identity["parents"]
    mutants = Mutants(results.database).among(digests.values())
    trials: dict[str, str] = {}
    for one, earlier in chain(plan, results)[:-1]:
        for row in earlier.rows:
            trials.setdefault(str(row.recipe), f"trial {row.number} of {one.name}")
    found = dict(plan.parents)
    for name, digest in digests.items():
        if mutant := mutants.get(digest):
            found[name] = f"mutant of {trials.get(mutant.source) or _source(mutant)}"
        elif digest in trials:
            reference = plan.parents.get(name, "")
            rule = f" ({reference.removeprefix(FRONT)})" if reference.startswith(FRONT) else ""
            found[name] = trials[digest] + rule
        elif name in variants:
            found[name] = f"variant of {variants[name].of}"
    return found


def judged(database: Database, plan: Plan) -> list[dict[str, Any]]:
    """The gate's decisions on the mutants of a study and of its earlier eras, oldest first: ``source``,
    ``accepted``, ``reason``."""
    names, one = [plan.name], plan
    while one.after:
        one, _ = open_stored(database, one.after)
        names.append(one.name)
    found = Mutants(database).of(*names)
    return [{"source": _source(m), "accepted": m.accepted, "reason": m.reason} for m in found]


def _source(mutant: Mutant) -> str:
    """A mutant's source by trial and study, or by digest if the source has no trial."""
    return (
        f"recipe {mutant.source[:12]}" if mutant.trial is None else f"trial {mutant.trial} of {mutant.study}"
    )

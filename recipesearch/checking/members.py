"""Parents that are members of the previous era's front. Light.

Each era is a separate study in one database, over one fixed space. A front member is a recipe, expressed from
the database at each use, so no file is stored for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ..plan import FRONT, Plan
from ..recipe import Parent
from ..study.results import Results, Row, open_results
from ..study.storage import Database
from .parents import Member
from .preflight import Preflight, preflight


def open_preflight(plan: Plan, database: Database) -> Preflight:
    """The preflight of a plan whose earlier eras are finished, for reading and exporting its results."""
    return preflight(plan, members(plan, database), to_run=False)


def members(plan: Plan, database: Database) -> dict[str, Member]:
    """The members of the previous era's front that a plan names among its parents, by reference.

    Raises StudyError if that era has no scores yet, and RefusedInput if its parents have changed since.
    """
    wanted = [reference for reference in plan.parents.values() if reference.startswith(FRONT)]
    if not wanted:
        return {}
    before, results = open_results(database, plan.after)
    checked = open_preflight(before.model_copy(update={"folder": plan.folder}), database)
    return {reference: _member(checked, results, reference) for reference in wanted}


def stand_ins(plan: Plan, before: Preflight) -> dict[str, Member]:
    """Placeholders for front members that no run has found yet, with the shapes of the previous era's donor.

    For checks before a run only: a real member may have another depth, and its content is unknown.
    """
    donor = before.parents.by_name[before.parents.donor]
    parent, shapes = donor.parent, donor.checkpoint
    return {
        reference: Member(replace(parent, digest=_hash(reference)), before.plan.name, None, shapes)
        for reference in plan.parents.values()
        if reference.startswith(FRONT)
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _member(checked: Preflight, results: Results, reference: str) -> Member:
    row = _chosen(results, reference.removeprefix(FRONT))
    recipe = checked.recipe_of(row.number, row.genome, row.recipe)
    return Member(
        Parent(recipe.digest, recipe), checked.plan.name, row.number, references=checked.parents.references()
    )


def _chosen(results: Results, rule: str) -> Row:
    """A front member by its rule: the knee, or the best in one objective."""
    return results.knee() if rule == "knee" else results.best(rule.removeprefix("best "))

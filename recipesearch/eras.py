"""Eras: an era's parents may be members of the front of the era before. Light.

Each era is a study of its own in the one database, over one fixed space. What an era takes from the last one
is a recipe, found anew from the database whenever it is asked for, so that nothing lies beside it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from .errors import PlanError, RefusedInput, StudyError
from .plan import FRONT, Plan
from .preflight import Member, Preflight, preflight
from .recipe import Parent
from .study.results import Results, Row, open_results


def begun(plan: Plan) -> bool:
    """Whether the plan's study is in its database."""
    try:
        open_results(plan.storage_url, plan.name)
    except StudyError:  # or nothing can be known: then running it says why
        return False
    return True


def open_preflight(plan: Plan) -> Preflight:
    """The preflight of a plan whose earlier eras are done, for looking at its results and exporting them."""
    return preflight(plan, members(plan), to_run=False)


def members(plan: Plan) -> dict[str, Member]:
    """The members of the last era's front that a plan names among its parents, by reference.

    Raises StudyError if that era has no scores yet, and RefusedInput if its parents have changed since.
    """
    wanted = [reference for reference in plan.parents.values() if reference.startswith(FRONT)]
    if not wanted:
        return {}
    before, results = open_results(plan.storage_url, plan.after)
    checked = open_preflight(before.model_copy(update={"folder": plan.folder}))
    return {reference: _member(checked, results, reference) for reference in wanted}


def lineage(plan: Plan, results: Results) -> dict[str, str]:
    """Where each parent of a study comes from: as its file names it, or a trial of the era before."""
    found = dict(plan.parents)
    taken = {name: rule for name, rule in found.items() if rule.startswith(FRONT)}
    if taken:
        _, before = open_results(plan.storage_url, plan.after)
        trials = {row.recipe: row.number for row in reversed(before.rows)}
        for name, rule in taken.items():
            digest = results.identity["parents"][name]
            found[name] = f"trial {trials.get(digest)} of {plan.after} ({rule.removeprefix(FRONT)})"
    return found


def stand_ins(plan: Plan, before: Preflight) -> dict[str, Member]:
    """What stands in for front members that no run has found yet: of the shape of the last era's donor.

    For checks before a run: they say nothing of the members' content, and of their depth only the donor's.
    """
    donor = before.pool.parents[before.pool.donor]
    return {
        reference: Member(replace(donor, digest=_hash(reference)), before.plan.name, None)
        for reference in plan.parents.values()
        if reference.startswith(FRONT)
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _member(checked: Preflight, results: Results, reference: str) -> Member:
    row = _chosen(results, reference.removeprefix(FRONT))
    recipe = checked.space.express(row.genome)
    if recipe.digest != row.recipe:
        raise RefusedInput(
            f"'{reference}' is trial {row.number} of {checked.plan.name}, which was scored with other "
            "parents: one has changed since; restore it, or search again under a new name"
        )
    return Member(Parent(recipe.digest, recipe), checked.plan.name, row.number)


def _chosen(results: Results, rule: str) -> Row:
    """A front member by its rule: the knee, or the best in one objective."""
    if rule == "knee":
        return results.knee()
    kind, _, objective = rule.partition(" ")
    if kind != "best":
        raise PlanError(f"unknown member '{rule}' of a front: it is knee or best OBJECTIVE")
    return results.best(objective)

"""Eras: an era's parents may be members of the front of the era before. Light.

Each era is a study of its own in the one database, over one fixed space. What an era takes from the last one
is a recipe, found anew from the database whenever it is asked for, so that nothing lies beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .errors import PlanError, StudyError
from .plan import FRONT, ROOM_OPTIONS, Plan
from .preflight import Member, Preflight, preflight
from .recipe import Parent
from .study.identity import Identity
from .study.mutants import Mutant, find_mutants, mutants_of
from .study.results import Results, Row, open_results, open_stored
from .study.storage import open_storage


def begun(plan: Plan) -> bool:
    """Whether the plan's study is in its database."""
    return _stored(plan) is not None


def closed(plans: Sequence[Plan]) -> int:
    """How many of a study file's eras are closed: those before the last one begun, whose fronts are parents.

    Raises PlanError if one of them, or their order, is not what was run.
    """
    stored = [_stored(plan) for plan in plans]
    last = max((place for place, was in enumerate(stored) if was), default=0)
    if not all(stored[:last]):
        missing = plans[stored.index(None)].era
        raise PlanError(
            f"era '{missing}' has not begun, and '{plans[last].era}' after it has: add new eras at the end, "
            "or give the study another name"
        )
    for place, was in enumerate(stored[: last + 1]):
        if was:
            _require_as_begun(plans[place], *was, whole=place < last)
    return last


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
    found = {reference: _member(checked, results, reference) for reference in wanted}
    if checked.pool.tokenizer and plan.engine.threads:
        import torch

        torch.set_num_threads(plan.engine.threads)  # they are built for their shapes, and once
    return found


def chain(plan: Plan, results: Results) -> list[tuple[Plan, Results]]:
    """A study and those of the eras before it, oldest first; each is read once."""
    found = [(plan, results)]
    while before := found[-1][0].after:
        found.append(open_results(plan.storage_url, before))
    return found[::-1]


def lineage(plan: Plan, results: Results) -> dict[str, str]:
    """Where each parent of a study comes from: as its file names it, a trial of an era before, or its mutant.

    Read from the database alone, by the digests that the study was begun with.
    """
    variants = plan.mutation.variants if plan.mutation else {}
    digests = results.identity["parents"]
    mutants = find_mutants(open_storage(plan.storage_url).engine, digests.values())
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


def judged(plan: Plan) -> list[dict[str, Any]]:
    """What the gate has said of the mutants of a study and of the eras before it, oldest first: ``source``,
    ``accepted``, ``reason``."""
    names, one = [plan.name], plan
    while one.after:
        one, _ = open_stored(plan.storage_url, one.after)
        names.append(one.name)
    found = mutants_of(open_storage(plan.storage_url).engine, names)
    return [{"source": _source(m), "accepted": m.accepted, "reason": m.reason} for m in found]


def stand_ins(plan: Plan, before: Preflight) -> dict[str, Member]:
    """What stands in for front members that no run has found yet: of the shape of the last era's donor.

    For checks before a run: they say nothing of the members' content, and of their depth only the donor's.
    """
    donor = before.pool.donor
    parent, shapes = before.pool.parents[donor], before.checkpoints[donor]
    return {
        reference: Member(replace(parent, digest=_hash(reference)), before.plan.name, None, shapes)
        for reference in plan.parents.values()
        if reference.startswith(FRONT)
    }


def _stored(plan: Plan) -> tuple[Plan, Identity] | None:
    """What the plan's study was begun with, if it was."""
    try:
        return open_stored(plan.storage_url, plan.name)
    except StudyError:  # or nothing can be known: then running it says why
        return None


def _require_as_begun(plan: Plan, was: Plan, identity: Identity, *, whole: bool) -> None:
    """Raises PlanError if an era follows another one than it did; ``whole``: or if it is not what was run."""
    if was.after != plan.after:
        raise PlanError(
            f"era '{plan.era}' began after '{was.after}', and now follows '{plan.after}': add new eras at "
            "the end, or give the study another name"
        )
    if not whole:
        return
    then, now = _fixed(was), _fixed(plan)
    parents = preflight(plan, members(plan), to_run=False).pool.parents
    then["parents"] = dict(identity["parents"])
    now["parents"] = {name: parent.digest for name, parent in parents.items()}
    if changed := sorted(key for key in now if now[key] != then[key]):
        raise PlanError(
            f"era '{plan.era}' is closed since the next one has begun from its front, but its "
            f"{' and '.join(changed)} changed; undo that, or give the study another name"
        )


def _fixed(plan: Plan) -> dict[str, Any]:
    """What of a closed era's plan has to stay, its parents aside."""
    content = plan.model_dump(
        mode="json", exclude={"storage", "folder", "held_out", "parents", "preference", "mutation"}
    )
    content["search"].pop("max_failure_rate")
    content["engine"].pop("timeout")
    options = content["engine"]["options"]
    content["engine"]["options"] = {key: options[key] for key in options if key not in ROOM_OPTIONS}
    return content


def _source(mutant: Mutant) -> str:
    """What a mutant was made of, where no era here has found it."""
    return (
        f"recipe {mutant.source[:12]}" if mutant.trial is None else f"trial {mutant.trial} of {mutant.study}"
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _member(checked: Preflight, results: Results, reference: str) -> Member:
    row = _chosen(results, reference.removeprefix(FRONT))
    recipe = checked.recipe_of(row.number, row.genome, row.recipe)
    return Member(
        Parent(recipe.digest, recipe), checked.plan.name, row.number, references=checked.references()
    )


def _chosen(results: Results, rule: str) -> Row:
    """A front member by its rule: the knee, or the best in one objective."""
    return results.knee() if rule == "knee" else results.best(rule.removeprefix("best "))

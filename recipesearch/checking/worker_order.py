"""From a checked plan to the WorkerOrder of its workers."""

from __future__ import annotations

from ..plan import Plan
from ..recipe import Parent, Recipe, Slice, Source, freeze
from ..recipe.hosting import padded
from ..workers.order import WorkerOrder
from .parents import Parents
from .preflight import Preflight


def worker_order(checked: Preflight) -> WorkerOrder:
    """The order for the study's workers."""
    plan, mutation = checked.plan, checked.plan.mutation
    return WorkerOrder(
        plan.name,
        plan.engine,
        tuple(checked.pool.parents.values()),
        live_donor(plan, checked.parents),
        plan.goals,
        plan.held_out_goals,
        plan.all_preferences if mutation else (),
        plan.goals_of(mutation.monitor) if mutation else (),
    )


def live_donor(plan: Plan, parents: Parents) -> Parent:
    """The parent that gives the live model its config and tokenizer.

    With a ``tokenizer`` section the donor is a recipe, built once: the plan's donor alone, in the vocabulary
    of all parents. For a layer space in an engine of fixed depth, the donor is padded to the deepest path.
    """
    donor = parents.by_name[parents.donor]
    if plan.space.layers and plan.engine.traits.fixed_depth:
        checkpoint, depth = donor.checkpoint, plan.space.layers.depth[1]
        filled = padded(donor.parent, checkpoint.layers, depth, checkpoint.architecture, plan.engine.dtype)
        return Parent(filled.digest, filled)
    if parents.vocabulary is None:
        return donor.parent
    sources = tuple(
        Source(parent, None, freeze({"weight": float(name == parents.donor)}))
        for name, parent in parents.models.items()
    )
    tokenizer = parents.vocabulary.tokenizer
    alone = Recipe("linear", (Slice(sources),), donor.parent, dtype=plan.engine.dtype, tokenizer=tokenizer)
    return Parent(alone.digest, alone)

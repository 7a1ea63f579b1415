"""An era's parents, chosen from the previous era's parents, elites and mutants, at most ``mutation.pool``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from ..analysis.generations import converged, generations, item_gains
from ..checking.members import open_preflight
from ..checking.preflight import Preflight
from ..errors import PlanError
from ..mutation.bred import keep
from ..mutation.breeder import Breeder, Means, recipes_of
from ..parents.identify import adapted
from ..plan import Plan
from ..recipe import Parent
from ..space.kinds import Space
from ..space.seeds import Labelled, parent_label
from ..study.chain import begun
from ..study.results import Results, open_results, open_stored
from ..study.storage import Database
from .elites import elites, mutations
from .niching import mates, survivors
from .seeding import averages, immigrants, inherited
from .variants import with_variants

Seeds = Callable[[Space], Sequence[Labelled]]


@dataclass(frozen=True)
class Opening:
    """An era's plan with its parents, and the seeds in addition to its space's own."""

    plan: Plan
    seeds: Seeds = lambda space: ()


@dataclass(frozen=True)
class _Candidate:
    """A candidate for the next era's parents.

    ``recipe`` is the digest of the recipe that has its scores. ``reference`` is the previous era's reference
    to it, None for a new parent. ``trial`` is the trial that it comes from.
    """

    name: str
    parent: Parent
    recipe: str
    reference: str | None = None
    trial: int | None = None


def require_same_population(plan: Plan, database: Database) -> None:
    """Raises PlanError if the first era started with other parents than the study file names now."""
    if not begun(database, plan) or plan.mutation is None:
        return
    stored, _ = open_stored(database, plan.name)
    variants = stored.mutation.variants if stored.mutation else {}
    was = {name: reference for name, reference in stored.parents.items() if name not in variants}
    for what, then, now in (
        ("parents", was, plan.parents),
        ("base", stored.base, plan.base),
        ("mutation.variants", variants, plan.mutation.variants),
    ):
        if then != now:
            raise PlanError(
                f"the study started with other {what}; undo the change, or give the study another name"
            )


def first_era(plan: Plan, means: Means) -> Opening:
    """The first era, over the plan's parents and their variants. Raises as mining and training do."""
    return _as_begun(plan, means.database) or Opening(with_variants(plan, means))


def next_era(plan: Plan, breeder: Breeder) -> Opening:
    """A later era. Its parents are chosen by the previous era's results, and written as files."""
    database = breeder.means.database
    if found := _as_begun(plan, database):
        return found
    stored, results = open_results(database, plan.after)
    before = stored.model_copy(update={"folder": plan.folder})
    checked = open_preflight(before, database)
    candidates = _candidates(checked, results, breeder)
    how = plan.mutation
    assert how is not None
    gains = item_gains(results, [candidate.recipe for candidate in candidates])
    # A parent that was never scored unmerged has no item scores to compare, so it is kept, like the base.
    unknown = [bool(np.isnan(row).all()) for row in gains]
    judged = not all(unknown)
    always = {i for i, one in enumerate(candidates) if one.name == plan.base or (judged and unknown[i])}
    kept = survivors(gains, how.pool, niching=how.control == "niching", always=always)
    chosen = [candidates[place] for place in kept]
    parents = {one.name: one.reference or _written(before, one) for one in chosen}
    pairs = [(chosen[i].name, chosen[j].name) for i, j in mates(gains[kept], how.mates)]
    strangers = how.immigrants * (2 if converged(generations(results, checked.space)) else 1)

    def seeds(space: Space) -> Sequence[Labelled]:
        return [
            *inherited(results.front, before.name, space),
            *averages(pairs, space),
            *immigrants(strangers, space, Random(f"{plan.search.seed}/{plan.era}/immigrants")),
        ]

    return Opening(plan.model_copy(update={"parents": parents}), seeds)


def _as_begun(plan: Plan, database: Database) -> Opening | None:
    """The era with its stored parents; None if it has not started."""
    if not begun(database, plan):
        return None
    stored, _ = open_stored(database, plan.name)
    return Opening(plan.model_copy(update={"parents": stored.parents}))


def _candidates(checked: Preflight, results: Results, breeder: Breeder) -> list[_Candidate]:
    """The distinct candidates, by content: the parents, then the elites, then the accepted mutants."""
    plan, era = checked.plan, str(checked.plan.era)
    alone = {row.seed: row.recipe for row in results.scored if row.seed}
    found = []
    for name, parent in checked.pool.parents.items():
        # If the space cannot express a parent unmerged, a bred parent has the scores of its own recipe.
        scored = alone.get(parent_label(name)) or recipes_of(parent, plan.engine.dtype)[0].digest
        found.append(_Candidate(name, parent, scored, plan.parents[name]))
    labels = {parent_label(name) for name in checked.pool.parents}
    for elite in elites(checked, results):
        row = results.row(elite.trial or 0)
        if row.seed not in labels:  # otherwise the elite is a parent already
            found.append(_Candidate(f"{era}t{elite.trial}", elite.parent, str(row.recipe), None, elite.trial))
    for mutation in mutations(checked, results, breeder):
        judged, elite = breeder.judged(mutation), mutation.elite
        if judged and judged.accepted:
            mutant = adapted(elite.parent, plan.bred / mutation.key)
            recipe = recipes_of(mutant, plan.engine.dtype)[-1].digest
            found.append(_Candidate(f"{era}t{elite.trial}m", mutant, recipe, None, elite.trial))
    distinct: dict[str, _Candidate] = {}
    for one in found:
        distinct.setdefault(one.parent.digest, one)
    return list(distinct.values())


def _written(plan: Plan, one: _Candidate) -> str:
    return keep(plan, one.parent, {"study": plan.name, "trial": one.trial})

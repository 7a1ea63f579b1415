"""Elites: the recipes that an era passes on, each chosen by a named rule. Light."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

import numpy as np

from .. import pareto
from ..checking.preflight import Preflight
from ..mutation.breeder import Breeder, Elite, Mutation
from ..plan import Plan
from ..study.results import Results, Row
from .inheritance import settings_for


def elites(checked: Preflight, results: Results) -> list[Elite]:
    """An era's elites, up to ``mutation.elites`` of them, best first."""
    plan = checked.plan
    assert plan.mutation is not None
    chance = Random(f"{plan.search.seed}/{plan.era}/elites")
    chosen = choose(results, plan.mutation.elites, plan.mutation.random, chance)
    found = ((checked.recipe_of(row.number, row.genome, row.recipe), row, rule) for row, rule in chosen)
    return [Elite.of(recipe, row.number, rule) for recipe, row, rule in found]


def mutations(checked: Preflight, results: Results, breeder: Breeder) -> list[Mutation]:
    """The mutations of an era's first elites, finished or not; at most ``mutation.mutants``."""
    plan = checked.plan
    assert plan.mutation is not None
    wanted = (_next(elite, plan, breeder) for elite in elites(checked, results))
    return list(islice((mutation for mutation in wanted if mutation), plan.mutation.mutants))


def _next(elite: Elite, plan: Plan, breeder: Breeder) -> Mutation | None:
    """The next mutation of an elite, with other random draws if earlier eras' mutants of it were rejected.

    None if an earlier era accepted a mutant of this elite: that mutant is a parent now.
    """
    attempt = 0
    while True:
        mutation = breeder.mutation(elite, settings_for(elite, plan, breeder, attempt), attempt)
        was = breeder.judged(mutation)
        if not was or was.study == plan.name:
            return mutation
        if was.accepted:
            return None
        attempt += 1


def choose(results: Results, count: int, share: float, chance: Random) -> list[tuple[Row, str]]:
    """Up to ``count`` distinct scored recipes with the rules that chose them, best first.

    The order is the knee, the best recipe in each objective, then the front by decreasing contribution to its
    hypervolume. A ``share`` of ``count`` is drawn from the other recipes by ``chance``, as in EvoMerge
    (2402.00070).
    """
    at_random = round(count * share)
    chosen: dict[str | None, tuple[Row, str]] = {}
    for row, rule in _by_rule(results):
        if len(chosen) < count - at_random:
            chosen.setdefault(row.recipe, (row, rule))
    others = [row for row in results.eligible if row.recipe not in chosen]
    drawn = chance.sample(others, min(len(others), count - len(chosen)))
    return [*chosen.values(), *((row, "random") for row in drawn)]


def _by_rule(results: Results) -> Iterator[tuple[Row, str]]:
    yield results.knee(), "knee"
    for objective in results.objectives:
        yield results.best(objective), f"best {objective}"
    if len(results.objectives) > pareto.MOST_OBJECTIVES:
        return
    losses = np.array([results.loss(row) for row in results.front])
    volumes = pareto.contributions(losses, pareto.beyond(results.losses()))
    for place in np.argsort(-volumes, kind="stable"):
        yield results.front[place], "hypervolume"

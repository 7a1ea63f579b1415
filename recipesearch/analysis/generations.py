"""A study's generations: how diverse each is, what was reached by then, and whether the search has
converged."""

from __future__ import annotations

import json
import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution, json_to_distribution

from .. import pareto
from ..score import Goal
from ..space.kinds import Space
from ..study.results import Results, Row
from .distances import Values, behavioural, genotypic


@dataclass(frozen=True)
class Generation:
    """One generation: its scored trials, and how different they are.

    ``distinct`` is the number of different recipes over ``trials``; ``genotypic`` and ``behavioural`` are
    diversities, None where no two can be compared; ``hypervolume`` is that of all recipes so far, None
    beyond ``pareto.MOST_OBJECTIVES``.
    """

    trials: int
    distinct: float
    genotypic: float | None
    behavioural: float | None
    hypervolume: float | None


@dataclass(frozen=True)
class Convergence:
    """A search that has converged: behavioural diversity then and now, and for how many generations the
    hypervolume has stood still."""

    first: float
    last: float
    still: int


def generations(results: Results, space: Space | None = None) -> list[Generation]:
    """A study's generations in order, each the next ``search.population`` scored trials, repeats too.

    For nsga2 and nsga3 these are the sampler's own: Optuna closes a generation at so many complete trials,
    and failed ones do not count. Other samplers have none, and blocks of that size serve to compare them.
    The last may be shorter. ``space`` tells which genes are active, and needs the parents at hand; without
    it all genes of the stored study count.
    """
    rows = [row for row in results.rows if row.recipe and row.values]
    size = results.identity["search"]["population"]
    blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
    recipes = list(dict.fromkeys(str(row.recipe) for row in rows))
    place = {recipe: index for index, recipe in enumerate(recipes)}
    values, genes = item_values(results, recipes), _stored_genes(results)
    found = []
    for block, volume in zip(blocks, _volumes(results, blocks), strict=True):
        digests, genomes = [str(row.recipe) for row in block], [row.genome for row in block]
        active = [space.active(genome) for genome in genomes] if space else None
        found.append(
            Generation(
                len(block),
                len(set(digests)) / len(block),
                genotypic(genes, genomes, active),
                behavioural(values[[place[digest] for digest in digests]]),
                volume,
            )
        )
    return found


def item_gains(results: Results, recipes: Sequence[str]) -> Values:
    """As ``item_values``, but higher is better in every column, and each objective has as many: its items are
    repeated up to the number of those that has most."""
    columns = [
        column if goal.maximize else 1.0 - column
        for goal in results.goals
        for column in [_column(results, goal, recipes)]
        if column.shape[1]
    ]
    most = max((column.shape[1] for column in columns), default=0)
    even = [column[:, np.arange(most) % column.shape[1]] for column in columns]
    return np.concatenate([np.empty((len(recipes), 0)), *even], axis=1)


def item_values(results: Results, recipes: Sequence[str]) -> Values:
    """Recipes' per-item values of all objectives' metrics, shape (recipes, items), by digest.

    NaN where an item has no scalar (a perplexity's is a pair). Values beyond [0, 1] (tokens,
    log-likelihoods) are scaled by their objective's range over these recipes: almost any two of them
    differ, which would say nothing. One query for each recipe and task: what takes time is reading items (9
    µs each), so one query for all is no faster.
    """
    columns = [_column(results, goal, recipes) for goal in results.goals]
    return np.concatenate([np.empty((len(recipes), 0)), *columns], axis=1)


def converged(history: Sequence[Generation], below: float = 0.25, still: int = 3) -> Convergence | None:
    """Whether a search has converged, perhaps too early; None if not, or if nothing can be known.

    It has if the last generation's behavioural diversity is less than ``below`` times the first one's AND
    the hypervolume has not grown over the last ``still`` generations: either alone is part of a healthy
    search. A quarter and three are rules of thumb, not tuned. The last generation does not count while it
    is incomplete.
    """
    full = [generation for generation in history if generation.trials == history[0].trials]
    if len(full) <= still:
        return None
    first, last = full[0].behavioural, full[-1].behavioural
    then, now = full[-1 - still].hypervolume, full[-1].hypervolume
    if first is None or last is None or then is None or now is None:
        return None
    grown = now > then and not math.isclose(now, then, rel_tol=1e-9)
    return Convergence(first, last, still) if last < below * first and not grown else None


def _stored_genes(results: Results) -> dict[str, BaseDistribution]:
    return {name: json_to_distribution(json.dumps(gene)) for name, gene in results.identity["genes"].items()}


def _column(results: Results, goal: Goal, recipes: Sequence[str]) -> Values:
    """One objective's values by recipe and item, shape (recipes, items), in [0, 1]."""
    rows = [
        {
            item: m[goal.metric]
            for item, m in results.ledger.items(recipe, goal.hash).items()
            if _is_number(m.get(goal.metric))
        }
        for recipe in recipes
    ]
    items = sorted(set().union(*rows))
    values = np.array([[row.get(item, np.nan) for item in items] for row in rows], float)
    values = values.reshape(len(recipes), len(items))
    if not items or (np.nanmin(values) >= 0 and np.nanmax(values) <= 1):
        return values
    low, high = np.nanmin(values), np.nanmax(values)
    return np.asarray((values - low) / (high - low if high > low else 1.0))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _volumes(results: Results, blocks: Sequence[Sequence[Row]]) -> Sequence[float | None]:
    """The hypervolume of all eligible recipes up to the end of each block."""
    if not blocks or len(results.objectives) > pareto.MOST_OBJECTIVES:
        return [None] * len(blocks)
    numbers = [row.number for row in results.eligible]
    return pareto.volumes(results.losses(), [bisect(numbers, block[-1].number) for block in blocks])

"""A study's generations: their diversity, the hypervolume so far, and whether the search has converged."""

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
    """One generation: the number of its scored trials, and their diversity.

    ``distinct`` is the number of different recipes divided by ``trials``. ``genotypic`` and ``behavioural``
    are diversities from 0 to 1, None if no two recipes can be compared. ``hypervolume`` covers all eligible
    recipes so far; None for more objectives than ``pareto.MOST_OBJECTIVES``.
    """

    trials: int
    distinct: float
    genotypic: float | None
    behavioural: float | None
    hypervolume: float | None


@dataclass(frozen=True)
class Convergence:
    """The evidence that a search has converged.

    ``first`` and ``last`` are the behavioural diversity of the first and the last generation; ``still`` is
    the number of generations over which the hypervolume has not grown.
    """

    first: float
    last: float
    still: int


def generations(results: Results, space: Space | None = None) -> list[Generation]:
    """A study's generations in order: blocks of ``search.population`` scored trials, repeats included.

    For nsga2 and nsga3 the blocks are the sampler's generations, since Optuna counts complete trials only.
    Other samplers have no generations; the blocks make them comparable. The last block may be shorter.
    ``space`` determines the active genes and needs the parents' files; without it all stored genes count.
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
    """As ``item_values``, but higher is better, and every objective has the same number of columns.

    An objective's columns are repeated up to the largest number of items of any objective.
    """
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
    """The values of all objectives' metrics by item, shape (recipes, items). ``recipes`` are digests.

    NaN for an item without a scalar value (a perplexity item has a pair). If an objective has values outside
    [0, 1], such as token counts or log-likelihoods, its values are scaled to [0, 1] by their range over these
    recipes. Reading items dominates the time (9 µs each), so each recipe and task has a query of its own.
    """
    columns = [_column(results, goal, recipes) for goal in results.goals]
    return np.concatenate([np.empty((len(recipes), 0)), *columns], axis=1)


def converged(history: Sequence[Generation], below: float = 0.25, still: int = 3) -> Convergence | None:
    """The evidence that a search has converged, perhaps too early; None without such evidence.

    A search has converged if the last generation's behavioural diversity is less than ``below`` times the
    first generation's, and the hypervolume has not grown over the last ``still`` generations. Either alone is
    normal in a healthy search. The defaults are untuned rules of thumb. An incomplete last generation is
    ignored.
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

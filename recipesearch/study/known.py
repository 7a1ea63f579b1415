"""Scores by other studies of recipes over the same parents: training data from the first trial on.

What is known when a study is created is recorded with the study. Later scores of other studies do not change
its proposals, so a resumed study stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..errors import PlanError
from ..recipe import Parent, Recipe
from ..recipe.mergekit_yaml import from_yaml
from ..samplers.most_telling import most_telling
from ..samplers.problem import Known
from ..score import Goal, Measurement
from ..space.coordinates import Coordinates
from ..space.projection import Projection
from .ledger import Ledger, scored_by, texts
from .storage import Database

# By recipe digest, for each objective: value, standard error, items.
Record = Mapping[str, Sequence[Sequence[float | int | None]]]


def record(ledger: Ledger, projection: Projection, goals: Sequence[Goal]) -> Record:
    """The scores of the recipes that have coordinates and all objectives; the most telling of very many."""
    tasks = {goal.hash for goal in goals}
    scores = {
        digest: [goal.of(metrics) for goal in goals]
        for digest, metrics in ledger.all_metrics(tasks).items()
        if tasks <= metrics.keys()
    }
    digests = [digest for digest, _ in _recipes(ledger.database, projection, list(scores))]
    losses = np.array([[g.sign * m.value for g, m in zip(goals, scores[d], strict=True)] for d in digests])
    kept = most_telling(losses) if len(digests) else []
    return {digests[i]: [[m.value, m.stderr, m.items] for m in scores[digests[i]]] for i in kept}


def restore(ledger: Ledger, projection: Projection, recorded: Record) -> Known:
    """The recorded recipes' coordinates with their scores at the time of the record."""
    if not recorded:  # otherwise all recipes of the database would be read
        return {}
    return {
        digest: (point, [Measurement(*values) for values in recorded[digest]])  # type: ignore[arg-type]
        for digest, point in _recipes(ledger.database, projection, list(recorded))
    }


def count(
    database: Database, projection: Projection, tasks: Sequence[str], dtype: str, chat_template: bool
) -> dict[str, int]:
    """The number of recipes with scores on these tasks that have coordinates, by the engine that scored."""
    found = scored_by(database, tasks, dtype, chat_template).items()
    counts = {engine: len(list(_recipes(database, projection, recipes))) for engine, recipes in found}
    return {engine: recipes for engine, recipes in counts.items() if recipes}


def _recipes(
    database: Database, projection: Projection, digests: Sequence[str]
) -> Iterator[tuple[str, Coordinates]]:
    """The recipes that have coordinates, in the order of their digests."""
    by_reference = {parent.reference: parent for parent in projection.parents}
    for digest, text in texts(database, digests):
        recipe = _read(text, by_reference)
        # Another digest: the reference names other content by now.
        point = projection.of(recipe) if recipe and recipe.digest == digest else None
        if point is not None:
            yield digest, point


def _read(text: str, parents: Mapping[str, Parent]) -> Recipe | None:
    """The recipe of a YAML text; None if it has other parents or a tokenizer of its own."""
    try:
        return from_yaml(text, parents.__getitem__)[0]
    except (KeyError, PlanError):
        return None

"""The ledger: every score, item by item, with the conditions under which the score is valid.

A study's scores are read from the ledger only. A score is keyed by recipe digest, task hash, engine, dtype
and chat template, its items by their key within the task. Each key has one row of metrics, written once and
never changed, and a block of items (see blocks.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from ..score import Conditions, Measurement, Metrics, Seconds, TaskScore
from .blocks import convert_rows, read_items, write_block
from .storage import METADATA, Database, insert_new

_RECIPES = sa.Table(
    "recipesearch_recipes",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("yaml", sa.Text, nullable=False),
)

_SCORES = sa.Table(
    "recipesearch_scores",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("recipe", sa.ForeignKey("recipesearch_recipes.digest"), nullable=False),
    sa.Column("task", sa.String(64), nullable=False),
    sa.Column("engine", sa.String(200), nullable=False),
    sa.Column("dtype", sa.String(20), nullable=False),
    sa.Column("chat_template", sa.Boolean, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("load_seconds", sa.Float, nullable=False),
    sa.Column("score_seconds", sa.Float, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("recipe", "task", "engine", "dtype", "chat_template"),
)


class Ledger:
    """The score tables of one database, for one set of conditions."""

    def __init__(self, database: Database, conditions: Conditions) -> None:
        self.database, self._conditions = database, conditions
        self._engine = database.engine
        convert_rows(self._engine)
        METADATA.create_all(self._engine)

    def commit(self, recipe: str, yaml: str, scores: Sequence[TaskScore], seconds: Seconds) -> None:
        """Writes a recipe's scores in one transaction: a crash leaves all of them or none.

        An existing row of the same key stays: another study or process has written it first.
        """
        with self._engine.begin() as connection:
            connection.execute(insert_new(connection, _RECIPES).values(digest=recipe, yaml=yaml))
            for score in scores:
                key = connection.scalar(
                    insert_new(connection, _SCORES)
                    .values(
                        recipe=recipe,
                        task=score.task_hash,
                        engine=self._conditions.engine,
                        dtype=self._conditions.dtype,
                        chat_template=self._conditions.chat_template,
                        metrics={name: [m.value, m.stderr] for name, m in score.metrics.items()},
                        load_seconds=seconds.load / len(scores),
                        score_seconds=seconds.score / len(scores),
                        at=datetime.now(UTC),
                    )
                    .returning(_SCORES.c.id)
                )
                if key is not None:
                    write_block(connection, key, 0, score.items)

    def metrics(self, recipe: str, tasks: Iterable[str]) -> dict[str, Metrics]:
        """A recipe's metrics by task hash, for the scored ones of ``tasks``."""
        return self.all_metrics(tasks, recipe).get(recipe, {})

    def all_metrics(self, tasks: Iterable[str], recipe: str | None = None) -> dict[str, dict[str, Metrics]]:
        """Metrics by recipe digest and task hash, for all recipes or for one, in one query."""
        query = self._mine(sa.select(_SCORES.c.recipe, _SCORES.c.task, _SCORES.c.metrics), tasks)
        if recipe is not None:
            query = query.where(_SCORES.c.recipe == recipe)
        found: dict[str, dict[str, Metrics]] = {}
        with self._engine.connect() as connection:
            for digest, task, metrics in connection.execute(query):
                found.setdefault(digest, {})[task] = {n: Measurement(*m) for n, m in metrics.items()}
        return found

    def seconds(self, tasks: Iterable[str]) -> dict[str, Seconds]:
        """The seconds spent on each recipe's scores on ``tasks``, by digest."""
        query = self._mine(
            sa.select(
                _SCORES.c.recipe, sa.func.sum(_SCORES.c.load_seconds), sa.func.sum(_SCORES.c.score_seconds)
            ),
            tasks,
        ).group_by(_SCORES.c.recipe)
        with self._engine.connect() as connection:
            return {digest: Seconds(load, score) for digest, load, score in connection.execute(query)}

    def items(self, recipe: str, task: str) -> dict[str, dict[str, object]]:
        """A recipe's per-item metrics on one task, by item key, in the task's order."""
        score = self._mine(sa.select(_SCORES.c.id), [task]).where(_SCORES.c.recipe == recipe)
        with self._engine.connect() as connection:
            return read_items(connection, score.scalar_subquery())

    def yaml(self, recipe: str) -> str | None:
        """A scored recipe's mergekit YAML."""
        with self._engine.connect() as connection:
            return connection.scalar(sa.select(_RECIPES.c.yaml).filter_by(digest=recipe))

    def _mine(self, query: sa.Select[Any], tasks: Iterable[str]) -> sa.Select[Any]:
        conditions = self._conditions
        return query.where(
            _SCORES.c.task.in_(list(tasks)),
            _SCORES.c.engine == conditions.engine,
            _SCORES.c.dtype == conditions.dtype,
            _SCORES.c.chat_template == conditions.chat_template,
        )

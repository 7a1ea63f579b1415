"""The ledger: every score, item by item, with the conditions under which the score is valid.

A study's scores are read from the ledger only. A score is keyed by recipe digest, task hash, engine, dtype
and chat template, its items by their key within the task. Each key has one row of metrics, and a block of
items for each commit that brought items (see blocks.py). Items are written once and never changed. A task may
be scored in parts: the metrics that are means are then pooled over all known items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from ..score import Conditions, Goal, Measurement, Metrics, Seconds, TaskScore, mean_of
from .blocks import BLOCKS, convert_rows, read_items, write_block
from .outage import patiently
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
        patiently(lambda: convert_rows(database.engine))
        patiently(lambda: METADATA.create_all(database.engine))

    def commit(self, recipe: str, yaml: str, scores: Sequence[TaskScore], seconds: Seconds) -> None:
        """Writes a recipe's scores in one transaction: a crash leaves all of them or none.

        Known items keep their results, because another study or process has written them first. Further items
        are added if the task has parts. Raises ValueError if the items before a part are not known.
        """
        self.database.write(lambda connection: self._commit(connection, recipe, yaml, scores, seconds))

    def _commit(
        self,
        connection: sa.Connection,
        recipe: str,
        yaml: str,
        scores: Sequence[TaskScore],
        seconds: Seconds,
    ) -> None:
        connection.execute(insert_new(connection, _RECIPES).values(digest=recipe, yaml=yaml))
        for score in scores:
            spent = Seconds(seconds.load / len(scores), seconds.score / len(scores))
            key = connection.scalar(
                insert_new(connection, _SCORES)
                .values(
                    recipe=recipe,
                    task=score.task_hash,
                    engine=self._conditions.engine,
                    dtype=self._conditions.dtype,
                    chat_template=self._conditions.chat_template,
                    metrics=_as_json(score.metrics),
                    load_seconds=spent.load,
                    score_seconds=spent.score,
                    at=datetime.now(UTC),
                )
                .returning(_SCORES.c.id)
            )
            if key is None:
                self._extend(connection, recipe, score, spent)
            else:
                _require_no_gap(score, 0)
                write_block(connection, key, 0, score.items)

    def _extend(self, connection: sa.Connection, recipe: str, score: TaskScore, spent: Seconds) -> None:
        """Adds the items and metrics that a known score lacks, and pools the means over all items."""
        query = self._mine(sa.select(_SCORES.c.id, _SCORES.c.metrics), [score.task_hash])
        key, known = connection.execute(query.where(_SCORES.c.recipe == recipe).with_for_update()).one()
        before = read_items(connection, key)
        _require_no_gap(score, len(before))
        new = {item: metrics for item, metrics in score.items.items() if item not in before}
        if score.of is None or not (new or score.metrics.keys() - known.keys()):
            return
        write_block(connection, key, len(before), new)
        metrics = {**score.metrics, **_from_json(known)}
        connection.execute(
            sa.update(_SCORES)
            .where(_SCORES.c.id == key)
            .values(
                metrics=_as_json(_pooled(metrics, {**before, **new}) if new else metrics),
                load_seconds=_SCORES.c.load_seconds + spent.load,
                score_seconds=_SCORES.c.score_seconds + spent.score,
            )
        )

    def metrics(self, recipe: str, tasks: Iterable[str]) -> dict[str, Metrics]:
        """A recipe's metrics by task hash, for the scored ones of ``tasks``."""
        return self.all_metrics(tasks, recipe).get(recipe, {})

    def all_metrics(self, tasks: Iterable[str], recipe: str | None = None) -> dict[str, dict[str, Metrics]]:
        """Metrics by recipe digest and task hash, for all recipes or for one, in one query."""
        query = self._mine(sa.select(_SCORES.c.recipe, _SCORES.c.task, _SCORES.c.metrics), tasks)
        if recipe is not None:
            query = query.where(_SCORES.c.recipe == recipe)
        found: dict[str, dict[str, Metrics]] = {}
        for digest, task, metrics in self.database.rows(query):
            found.setdefault(digest, {})[task] = _from_json(metrics)
        return found

    def known(self, tasks: Iterable[str], recipe: str | None = None) -> dict[str, dict[str, int]]:
        """The number of known items by recipe digest and task hash, for all recipes or for one, in one query.

        They are the first items in the order of ``score.item_order``. Scores without items are left out.
        """
        query = self._mine(sa.select(_SCORES.c.recipe, _SCORES.c.task, sa.func.max(BLOCKS.c.stop)), tasks)
        query = query.join(BLOCKS).group_by(_SCORES.c.recipe, _SCORES.c.task)
        if recipe is not None:
            query = query.where(_SCORES.c.recipe == recipe)
        found: dict[str, dict[str, int]] = {}
        for digest, task, items in self.database.rows(query):
            found.setdefault(digest, {})[task] = items
        return found

    def covers(self, recipe: str, goals: Sequence[Goal], most: int | None = None) -> bool:
        """Whether a recipe has scores for all goals, on all items or on ``most`` items of each pooled task.

        ``goals`` are as a started worker reports them.
        """
        if not {goal.hash for goal in goals} <= self.metrics(recipe, {goal.hash for goal in goals}).keys():
            return False
        known = self.known({goal.hash for goal in goals}, recipe).get(recipe, {})
        wanted = {goal.hash: min(goal.items, most or goal.items) for goal in goals if goal.pooled}
        return all(known.get(task, items) >= items for task, items in wanted.items())

    def seconds(self, tasks: Iterable[str], recipe: str | None = None) -> dict[str, Seconds]:
        """The seconds spent on the scores of all recipes, or of one, on ``tasks``, by digest."""
        query = self._mine(
            sa.select(
                _SCORES.c.recipe, sa.func.sum(_SCORES.c.load_seconds), sa.func.sum(_SCORES.c.score_seconds)
            ),
            tasks,
        ).group_by(_SCORES.c.recipe)
        if recipe is not None:
            query = query.where(_SCORES.c.recipe == recipe)
        return {digest: Seconds(load, score) for digest, load, score in self.database.rows(query)}

    def items(self, recipe: str, task: str) -> dict[str, dict[str, object]]:
        """A recipe's per-item metrics on one task, by item key, in the task's order."""
        score = self._mine(sa.select(_SCORES.c.id), [task]).where(_SCORES.c.recipe == recipe)
        return self.database.read(lambda connection: read_items(connection, score.scalar_subquery()))

    def yaml(self, recipe: str) -> str | None:
        """A scored recipe's mergekit YAML."""
        rows = self.database.rows(sa.select(_RECIPES.c.yaml).filter_by(digest=recipe))
        return rows[0].yaml if rows else None

    def _mine(self, query: sa.Select[Any], tasks: Iterable[str]) -> sa.Select[Any]:
        conditions = self._conditions
        return query.where(
            _SCORES.c.task.in_(list(tasks)),
            _SCORES.c.engine == conditions.engine,
            _SCORES.c.dtype == conditions.dtype,
            _SCORES.c.chat_template == conditions.chat_template,
        )


def texts(database: Database, recipes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The digests and mergekit YAML of these recipes, in the order of their digests."""
    wanted = set(recipes)
    query = sa.select(_RECIPES.c.digest, _RECIPES.c.yaml).order_by(_RECIPES.c.digest)
    for digest, text in database.rows(query):
        if digest in wanted:
            yield digest, text


def scored_by(
    database: Database, tasks: Iterable[str], dtype: str, chat_template: bool
) -> dict[str, list[str]]:
    """The recipes with scores on all ``tasks``, by the engine that scored the recipes."""
    wanted = set(tasks)
    query = (
        sa.select(_SCORES.c.engine, _SCORES.c.recipe)
        .where(_SCORES.c.task.in_(wanted))
        .where(_SCORES.c.dtype == dtype, _SCORES.c.chat_template == chat_template)
        .group_by(_SCORES.c.engine, _SCORES.c.recipe)
        .having(sa.func.count(_SCORES.c.task.distinct()) == len(wanted))
    )
    found: dict[str, list[str]] = {}
    for engine, recipe in database.rows(query):
        found.setdefault(engine, []).append(recipe)
    return found


def _pooled(metrics: Metrics, items: Mapping[str, Mapping[str, Any]]) -> Metrics:
    """The metrics with the means taken over these items, in the task's order, as lm-eval takes them."""
    ordered = [items[item] for item in sorted(items)]
    return {
        name: measured
        if measured.items is None
        else mean_of([values[name] for values in ordered if name in values])
        for name, measured in metrics.items()
    }


def _require_no_gap(score: TaskScore, known: int) -> None:
    if score.start > known:
        raise ValueError(
            f"a part of task {score.task_hash} starts at item {score.start}, but only {known} items are "
            "known; score the items before the part first"
        )


def _as_json(metrics: Metrics) -> dict[str, list[float | int | None]]:
    return {name: [m.value, m.stderr, m.items] for name, m in metrics.items()}


def _from_json(stored: Mapping[str, list[Any]]) -> dict[str, Measurement]:
    return {name: Measurement(*values) for name, values in stored.items()}

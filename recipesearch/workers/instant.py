"""A worker without a model: it scores recipes by a formula, in microseconds. Light.

For tests of the study, the search and the samplers, for dry runs and for simulations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..recipe import Recipe
from ..recipe.shares import parent_shares
from ..score import (
    FUNCTION,
    MODEL,
    Conditions,
    Goal,
    Part,
    Seconds,
    TaskScore,
    item_order,
    mean_of,
    pooled_tasks,
)
from .order import Ready, WorkerOrder

if TYPE_CHECKING:
    from ..scoring.preferences import Preferences, Wanted

ITEMS = 40  # of each task


class InstantWorker:
    """Answers an item rightly if the recipe's skill in the goal exceeds the item's difficulty.

    Each goal has its own best shares of the parents, and skill falls with the distance from these shares:
    goals disagree, and merges beat their parents. Best shares and difficulties follow from the names of
    goals, parents and items alone.
    """

    def __init__(self, order: WorkerOrder) -> None:
        engine, self._parents = order.engine, order.parents
        conditions = Conditions(
            "instant",
            "cpu",
            engine.threads or 1,
            engine.batch_size,
            "1",
            engine.dtype,
            engine.chat_template,
        )
        self.ready = Ready(conditions, tuple(map(_loaded, order.goals)), tuple(map(_loaded, order.held_out)))

    def score(
        self, recipe: Recipe, held_out: bool = False, part: Part | None = None
    ) -> tuple[list[TaskScore], Seconds]:
        """Scores a recipe by the formula."""
        goals = self.ready.held_out if held_out else self.ready.goals
        by_task = {goal.hash: [one for one in goals if one.hash == goal.hash] for goal in goals}
        (start, stop), pooled, scores = part or (0, ITEMS), pooled_tasks(goals), []
        for task, of_task in by_task.items():
            whole = range(ITEMS) if start == 0 else ()
            places = item_order(task, ITEMS)[start:stop] if task in pooled else whole
            if places:
                scores.append(self._score(recipe, of_task, sorted(places), start))
        return scores, Seconds(0.0, 0.0)

    def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Wanted) -> Preferences:
        """Raises NotImplementedError, because this worker has no model."""
        raise NotImplementedError("an InstantWorker has no model to mine; use Worker or Supervised")

    def forget(self, digests: Sequence[str]) -> None:
        """Does nothing: this worker builds no models."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing: there is nothing to close."""

    def _score(self, recipe: Recipe, goals: Sequence[Goal], places: Sequence[int], start: int) -> TaskScore:
        task, skills = goals[0].hash, {goal.metric: self._skill(recipe, goal) for goal in goals}
        items = {
            f"{place:06d}": {
                metric: float(skill > _unit(task, str(place))) for metric, skill in skills.items()
            }
            for place in places
        }
        metrics = {metric: mean_of([item[metric] for item in items.values()]) for metric in skills}
        return TaskScore(task, metrics, items, start, ITEMS)

    def _skill(self, recipe: Recipe, goal: Goal) -> float:
        """A recipe's skill in a goal, from 0 to 1; 1 at the goal's best shares."""
        shares = parent_shares(recipe)
        # The fourth power sets goals apart: it moves their best shares away from the average.
        wanted = {parent: _unit(parent.digest, goal.name) ** 4 for parent in self._parents}
        total = sum(wanted.values())
        return 1.0 - sum(abs(shares.get(parent, 0.0) - wanted[parent] / total) for parent in wanted) / 2


def _loaded(goal: Goal) -> Goal:
    """The goal with a task hash that depends on the task's file name only, not on its folder."""
    name = goal.task.rpartition("/")[2]
    means = goal.task != MODEL and not goal.task.startswith(FUNCTION)
    return replace(goal, hash=hashlib.sha256(name.encode()).hexdigest()[:32], items=ITEMS, pooled=means)


def _unit(*names: str) -> float:
    """A number from 0 to 1 derived from names."""
    return int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:6], "big") / 2**48

"""A worker without a model: it scores recipes by a formula, in microseconds. Light.

For tests of the study, the search and the samplers, for dry runs and for simulations.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..recipe import Recipe
from ..recipe.shares import parent_shares
from ..score import Conditions, Goal, Measurement, Seconds, TaskScore
from .order import Ready, WorkerOrder

if TYPE_CHECKING:
    from ..scoring.preferences import Preferences, Wanted

ITEMS = 40


class InstantWorker:
    """Answers an item rightly if the recipe's skill in the goal exceeds the item's difficulty.

    Each goal has its own best shares of the parents, and skill falls with the distance from these shares:
    goals disagree, and merges beat their parents. Best shares and difficulties follow from the names of
    goals, parents and items alone. Every task has ``ITEMS`` items.
    """

    def __init__(self, order: WorkerOrder) -> None:
        engine = order.engine
        conditions = Conditions(
            "instant", "cpu", 1, engine.batch_size, "1", engine.dtype, engine.chat_template
        )
        self.ready = Ready(conditions, _hashed(order.goals), _hashed(order.held_out))

    def score(self, recipe: Recipe, held_out: bool = False) -> tuple[list[TaskScore], Seconds]:
        """Scores a recipe by the formula."""
        goals = self.ready.held_out if held_out else self.ready.goals
        by_task = {goal.hash: [one for one in goals if one.hash == goal.hash] for goal in goals}
        return [_score(recipe, task, of_task) for task, of_task in by_task.items()], Seconds(0.0, 0.0)

    def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Wanted) -> Preferences:
        """Raises NotImplementedError: there is no model to mine."""
        raise NotImplementedError("an instant worker has no model to mine")

    def forget(self, digests: Sequence[str]) -> None:
        """Does nothing: no models are built."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing: there is nothing to close."""


def skill(recipe: Recipe, goal: Goal) -> float:
    """The recipe's skill in a goal, from 0 to 1: 1 at the goal's best shares of the recipe's parents."""
    shares = parent_shares(recipe)
    # The fourth power sets goals apart: it moves their best shares away from the average.
    wanted = {parent: _unit(parent.digest, goal.hash, goal.metric) ** 4 for parent in shares}
    total = sum(wanted.values())
    return max(0.0, 1.0 - sum(abs(share - wanted[parent] / total) for parent, share in shares.items()))


def _score(recipe: Recipe, task: str, goals: Sequence[Goal]) -> TaskScore:
    items: dict[str, dict[str, object]] = {}
    for place in range(ITEMS):
        right = {goal.metric: float(skill(recipe, goal) > _unit(task, str(place))) for goal in goals}
        items[f"{place:06d}:{task[:8]}"] = dict(right)
    return TaskScore(task, {goal.metric: _measured(goal, items) for goal in goals}, items)


def _measured(goal: Goal, items: dict[str, dict[str, object]]) -> Measurement:
    value = sum(float(str(item[goal.metric])) for item in items.values()) / ITEMS
    return Measurement(value, math.sqrt(value * (1 - value) / (ITEMS - 1)))


def _hashed(goals: Sequence[Goal]) -> tuple[Goal, ...]:
    return tuple(replace(goal, hash=hashlib.sha256(goal.task.encode()).hexdigest()[:32]) for goal in goals)


def _unit(*names: str) -> float:
    """A number from 0 to 1 that follows from some names."""
    return int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:6], "big") / 2**48

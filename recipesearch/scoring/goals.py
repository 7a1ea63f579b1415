"""Loads the tasks of goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import PlanError
from ..score import Goal
from .tasks import Loaded, LoadedTask, load_tasks, require_metric


def load_goals(goals: Sequence[Goal]) -> list[Loaded]:
    """The goals' tasks, in order. Raises PlanError for an unknown task or metric."""
    loaded = load_tasks([goal.task for goal in goals])
    for task, goal in zip(loaded, goals, strict=True):
        require_metric(task, goal)
    return loaded


def load_unseen(goals: Sequence[Goal], searched: Sequence[Loaded]) -> list[Loaded]:
    """The held-out goals' tasks, as ``load_goals``. Raises PlanError if a task is also in ``searched``."""
    loaded, seen = load_goals(goals), {task.hash for task in searched}
    for task in loaded:
        if task.hash in seen and task.items:
            raise PlanError(
                f"held-out task '{task.spec}' has the same items as a search task; name other items"
            )
    return loaded


def hashed(goals: Sequence[Goal], tasks: Sequence[Loaded]) -> tuple[Goal, ...]:
    """The goals with their loaded tasks' hashes and numbers of items, and whether parts can be pooled."""
    return tuple(
        replace(
            goal,
            hash=task.hash,
            items=task.items,
            pooled=isinstance(task, LoadedTask) and task.pools(goal.metric),
        )
        for goal, task in zip(goals, tasks, strict=True)
    )

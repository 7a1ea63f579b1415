"""The plan's objectives and held-out goals as loaded tasks."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PlanError
from ..plan import Plan
from ..score import Objective
from .preferences import require_minable
from .tasks import Loaded, load_tasks, require_metric


def load_all_goals(plan: Plan) -> tuple[list[Loaded], list[Loaded]]:
    """The objectives' tasks and the held-out ones. Raises PlanError if a held-out task is a search task."""
    tasks, held_out = _load(plan.goals), _load(plan.held_out_goals)
    seen = {task.hash for task in tasks}
    for task in held_out:
        if task.hash in seen and task.items:
            raise PlanError(f"held-out task '{task.spec}' asks what the search asks; name other items")
    return tasks, held_out


def require_mutations(plan: Plan) -> None:
    """Raises PlanError for preference items, or monitored tasks, that would fail once something is to be
    mutated: hours into a run."""
    if plan.mutation is not None:
        require_minable(plan.all_preferences)
        _load(plan.model_copy(update={"objectives": plan.mutation.monitor}).goals)


def _load(goals: Sequence[Objective]) -> list[Loaded]:
    """The goals' tasks, in order. Raises PlanError for an unknown task or metric."""
    loaded = load_tasks([goal.task for goal in goals])
    for task, goal in zip(loaded, goals, strict=True):
        require_metric(task, goal)
    return loaded

"""Objectives and scores: what a recipe is judged by, and how it was judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# A task that is a Python function, python:module:function, and the one metric that it has.
FUNCTION, VALUE = "python:", "value"
# The task that asks of the merge itself, not of its answers.
MODEL = "model"
# A metric of every task that has the model write: tokens of an answer before any filter.
RESPONSE_LENGTH = "response_length"


@dataclass(frozen=True)
class Objective:
    """One metric of one task, with a direction.

    ``task`` is the path of an lm-eval task, its registered name, a function, or ``model``.
    """

    task: str
    metric: str
    maximize: bool = True

    @property
    def name(self) -> str:
        """``task.metric``, the task by its file stem, or the function's name; how tables and ``--best`` call
        the objective."""
        if self.task.startswith(FUNCTION):
            return self.task.rpartition(":")[2]
        stem = self.task.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")
        return f"{stem}.{self.metric}"


@dataclass(frozen=True)
class Measurement:
    """An aggregated metric and its standard error (None where lm-eval has no closed form)."""

    value: float
    stderr: float | None


@dataclass(frozen=True)
class TaskScore:
    """One model on one task: aggregated metrics, and each item's metrics in the task's order.

    ``items`` maps an item's key (its place and lm-eval's document hash) to its metrics by name, values as
    lm-eval's ``process_results`` gave them.
    """

    task_hash: str
    metrics: Mapping[str, Measurement]
    items: Mapping[str, Mapping[str, object]]

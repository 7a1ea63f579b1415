"""Goals and scores: what a recipe is scored on, and what it scored."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# A task that is a Python function, python:module:function, and the one metric that it has.
FUNCTION, VALUE = "python:", "value"
# The task that measures the merge itself, not the model's answers.
MODEL = "model"
# A metric of every task in which the model writes: tokens of an answer before any filter.
RESPONSE_LENGTH = "response_length"

Part = tuple[int, int]  # a half-open range [start, stop) of a task's items in the order of item_order


def item_order(task: str, items: int) -> list[int]:
    """The places of a task's items in the fixed random order in which parts of the task are scored.

    The order follows from the task's hash alone, so all recipes answer the same items first.
    """
    return sorted(range(items), key=lambda place: hashlib.sha256(f"{task}/{place}".encode()).digest())


@dataclass(frozen=True)
class Goal:
    """One metric of one task, with a direction: an objective, or the same metric on held-out items.

    ``task`` locates the task: the path of an lm-eval task, its registered name, a function, or ``model``;
    empty for a goal that was read from a database. ``hash`` is the digest of the task's content, empty until
    the task is loaded. ``bound`` is the worst value within bounds; ``within`` gives the bound as a share of
    the best parent's value. A started worker reports ``items``, the number of the task's items, and
    ``pooled``: whether the metric is a mean over the items, so that scores of parts can be pooled.
    """

    name: str
    task: str
    metric: str
    maximize: bool = True
    bound: float | None = None
    within: float | None = None
    hash: str = ""
    items: int = 0
    pooled: bool = False

    @property
    def sign(self) -> int:
        """The factor that turns a value into a loss: -1 where the goal is maximized."""
        return -1 if self.maximize else 1

    def of(self, metrics: Mapping[str, Mapping[str, Measurement]]) -> Measurement:
        """The goal's measurement among metrics by task hash and name. Raises KeyError if there is none."""
        return metrics[self.hash][self.metric]


def pooled_tasks(goals: Sequence[Goal]) -> set[str]:
    """The hashes of the tasks that can be scored in parts: all their goals are means over the items."""
    return {goal.hash for goal in goals} - {goal.hash for goal in goals if not goal.pooled}


def goal_name(task: str, metric: str) -> str:
    """``task.metric``, the task by its file stem; the function's name for a function."""
    if task.startswith(FUNCTION):
        return task.rpartition(":")[2]
    stem = task.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")
    return f"{stem}.{metric}"


@dataclass(frozen=True)
class Measurement:
    """An aggregated metric and its standard error (None where lm-eval has no closed form).

    ``items`` is the number of items that a mean is taken over; None for any other aggregate, and in scores of
    earlier versions.
    """

    value: float
    stderr: float | None
    items: int | None = None


def mean_of(values: Sequence[float]) -> Measurement:
    """The mean and its standard error by lm-eval's formulas (``lm_eval.api.metrics``), bit for bit."""
    count, mean = len(values), sum(values) / len(values)
    if count == 1:
        return Measurement(float(mean), None, count)
    variance = sum([(value - mean) ** 2 for value in values]) / (count - 1)
    return Measurement(float(mean), math.sqrt(variance) / math.sqrt(count), count)


Metrics = Mapping[str, Measurement]


@dataclass(frozen=True)
class TaskScore:
    """One model on one task or a part of it: aggregated metrics, each item's metrics in the task's order.

    ``items`` maps an item's key (its place and lm-eval's document hash) to its metrics by name, with the
    values that lm-eval's ``process_results`` returned. The score covers the items from ``start`` on in the
    order of ``item_order``. ``of`` is the number of the task's items; None for a task that has no parts.
    """

    task_hash: str
    metrics: Metrics
    items: Mapping[str, Mapping[str, object]]
    start: int = 0
    of: int | None = None


@dataclass(frozen=True)
class Conditions:
    """What can change a score beside recipe and task. Scores under different conditions are never mixed.

    Some methods' bits depend on device, threads and versions; padding, and so the batch size, changes logits.
    ``gpu`` is the GPU's model name, empty on a CPU.
    """

    kind: str
    device: str
    threads: int
    batch_size: int
    versions: str
    dtype: str
    chat_template: bool
    options: Mapping[str, object] = field(default_factory=dict)
    gpu: str = ""

    @property
    def engine(self) -> str:
        """The engine's part of the ledger key, such as ``transformers/cpu/threads=2/batch=64/torch 2.13``.

        Options appear as a digest; the study's identity has them in full.
        """
        device = f"{self.device} {self.gpu}" if self.gpu else self.device
        label = f"{self.kind}/{device}/threads={self.threads}/batch={self.batch_size}/{self.versions}"
        if not self.options:
            return label
        text = json.dumps(dict(self.options), sort_keys=True)
        return f"{label}/options {hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Seconds:
    """The cost of one candidate in seconds: loading the merge, and scoring it."""

    load: float
    score: float

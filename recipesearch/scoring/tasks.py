"""lm-eval tasks by path or registered name, checked, each with a hash of its content."""

from __future__ import annotations

import difflib
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PlanError, RefusedInput, nearest
from ..score import FUNCTION, MODEL, RESPONSE_LENGTH, Goal
from .functions import LoadedFunction, LoadedModel, load_function

if TYPE_CHECKING:
    from lm_eval.api.task import Task

# Keys that locate a task's data. They are not content: the documents themselves are hashed.
_LOCATION_KEYS = {"dataset_path", "dataset_name", "dataset_kwargs", "metadata"}


@dataclass(frozen=True)
class LoadedTask:
    """A loaded task: lm-eval's object, and the hash of its content."""

    spec: str
    task: Task
    hash: str

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the task's metrics. Metrics of further filters are ``metric,filter``."""
        names = list(self.task.aggregation())
        further = [ensemble.name for ensemble in getattr(self.task, "_filters", [])][1:]
        lengths = [RESPONSE_LENGTH] if generates(self.task) else []
        return (*names, *(f"{name},{filter_name}" for filter_name in further for name in names), *lengths)

    @property
    def items(self) -> int:
        """The number of the task's items."""
        return len(self.task.eval_docs)

    def pools(self, metric: str) -> bool:
        """Whether a metric's value is the mean of the items' values."""
        return aggregation(self.task, metric.partition(",")[0]) is None


def aggregation(task: Task, metric: str) -> Callable[[list[Any]], float] | None:
    """The function that makes a metric's value from the items' values; None for the mean."""
    from lm_eval.api.metrics import mean

    found = task.aggregation().get(metric, mean)
    return None if found is mean else found


def generates(task: Task) -> bool:
    """Whether the model writes answers to the task's items."""
    return str(task.OUTPUT_TYPE) == "generate_until"


def chooses(task: Task) -> bool:
    """Whether the model chooses among given answers to the task's items."""
    return str(task.OUTPUT_TYPE) == "multiple_choice"


Loaded = LoadedTask | LoadedFunction | LoadedModel


def load_tasks(specs: Sequence[str]) -> list[Loaded]:
    """Loads tasks given as absolute YAML paths, registered lm-eval names, functions or ``model``.

    Raises PlanError for an unknown task or a group, and RefusedInput for a task that runs generated code.
    """
    named = [spec for spec in specs if not _is_path(spec) and spec != MODEL and not _is_function(spec)]
    manager = _manager(registered=bool(named))
    return [_load_any(manager, spec) for spec in specs]


def _load_any(manager: Any, spec: str) -> Loaded:
    if _is_function(spec):
        return load_function(spec)
    return LoadedModel() if spec == MODEL else _load(manager, spec)


def require_metric(loaded: Loaded, goal: Goal) -> None:
    """Raises PlanError, naming the closest metric, if the task does not compute the goal's metric."""
    if goal.metric not in loaded.metrics:
        raise PlanError(
            f"task '{goal.task}' has no metric '{goal.metric}': {nearest(goal.metric, loaded.metrics)}"
        )


@functools.cache
def _manager(registered: bool) -> Any:
    """lm-eval's index of tasks, cached because the index of registered tasks takes many seconds to read."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=registered)


def _is_path(spec: str) -> bool:
    return spec.endswith((".yaml", ".yml"))


def _is_function(spec: str) -> bool:
    return spec.startswith(FUNCTION)


def _require_one(manager: Any, spec: str) -> None:
    """Raises PlanError unless the name or path is that of one task."""
    if _is_path(spec) and not Path(spec).exists():
        raise PlanError(f"task file {spec} does not exist; check the path in the study file")
    if not _is_path(spec) and spec not in manager.all_tasks:
        near = difflib.get_close_matches(spec, manager.all_tasks, n=1)  # no list of all: there are thousands
        hint = f"did you mean '{near[0]}'?" if near else "give a registered name or a YAML path"
        raise PlanError(f"unknown task '{spec}': {hint}")
    if spec in manager.all_groups or spec in manager.all_tags:
        raise PlanError(f"'{spec}' is a group of tasks; name its tasks one by one")


def _load(manager: Any, spec: str) -> LoadedTask:
    _require_one(manager, spec)
    try:
        found = manager.load(spec)
    except Exception as error:  # lm-eval's loaders may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PlanError(f"task '{spec}' cannot be loaded: {reason}") from error
    if found.get("groups") or len(found["tasks"]) != 1:
        raise PlanError(f"'{spec}' is a group of {len(found['tasks'])} tasks; name its tasks one by one")
    (task,) = found["tasks"].values()
    if getattr(task, "UNSAFE_CODE", False):
        raise RefusedInput(
            f"task '{spec}' runs code that the model writes, which is not supported; name another task"
        )
    if len(task.eval_docs) == 0:
        raise PlanError(f"task '{spec}' has no documents; check its data files")
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    return LoadedTask(spec, task, _content_hash(task))


def _content_hash(task: Task) -> str:
    """Hex digest of the task's configuration and documents, wherever they are, under this lm-eval version.

    Few-shot examples are included if there are any, because they are part of every prompt.
    """
    from importlib.metadata import version

    # The callables themselves: dump_config gives their text, with an address that changes.
    whole = task.config.to_dict(keep_callable=True)
    config = {key: value for key, value in whole.items() if key not in _LOCATION_KEYS}
    shots = list(task.fewshot_docs()) if task.get_config("num_fewshot") else []
    ours = [RESPONSE_LENGTH] if generates(task) else []  # part of the score, so part of the hash
    content = [version("lm_eval"), config, list(task.eval_docs), *([shots] if shots else []), *ours]
    text = json.dumps(content, sort_keys=True, default=_as_text)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _as_text(value: object) -> object:
    """A form of values that JSON cannot represent.

    A function becomes its name and the file that defines it, because it may call other functions of the file.
    """
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if not callable(value):
        return str(value)
    name = str(getattr(value, "__qualname__", type(value)))
    try:
        return [name, Path(inspect.getfile(value)).read_text("utf-8")]
    except (OSError, TypeError):
        return name

"""Checks a goal against its task's file, without the task's data: works where there is no hub."""

from __future__ import annotations

from typing import Any

from ..errors import PlanError, nearest
from ..score import FUNCTION, MODEL, RESPONSE_LENGTH, Goal
from .functions import LoadedModel, load_function
from .tasks import find_entry


def require_stated(goal: Goal) -> None:
    """Raises PlanError unless the task exists and declares the metric. Reads none of its data.

    For a task that is a Python class only the name is checked.
    """
    if goal.task.startswith(FUNCTION):
        load_function(goal.task)
        return
    if goal.task == MODEL:
        known = list(LoadedModel().metrics)
    else:
        config = _config(goal.task)
        if "class" in config:
            return
        known = _metrics(config)
    if goal.metric not in known:
        raise PlanError(f"task '{goal.task}' has no metric '{goal.metric}': {nearest(goal.metric, known)}")


def _config(spec: str) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    path = find_entry(spec)
    try:
        config: dict[str, Any] = load_yaml(path)
    except Exception as error:  # YAML errors, and errors of the task's own Python
        raise PlanError(f"task '{spec}' cannot be loaded: {str(error).splitlines()[0]}") from error
    return config


def _metrics(config: dict[str, Any]) -> list[str]:
    """The metrics of a task's configuration, as in LoadedTask.metrics."""
    from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY

    kind = str(config.get("output_type", "generate_until"))
    names = [entry["metric"] for entry in config.get("metric_list") or ()]
    names = names or list(DEFAULT_METRIC_REGISTRY.get(kind, ()))
    further = [entry["name"] for entry in config.get("filter_list") or ()][1:]
    lengths = [RESPONSE_LENGTH] if kind == "generate_until" else []
    return [*names, *(f"{name},{filter_name}" for filter_name in further for name in names), *lengths]

"""The metrics that a task's YAML file names: a study file is checked without the tasks' data."""

from pathlib import Path
from typing import Any

from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY
from lm_eval.tasks._yaml_loader import load_yaml

from recipesearch.score import FUNCTION, MODEL, RESPONSE_LENGTH, Goal
from recipesearch.scoring.functions import LoadedModel, load_function
from recipesearch.scoring.tasks import _manager, _require_one


def require_metric(goal: Goal) -> None:
    """Fails unless the goal's task exists and has the goal's metric.

    A task that is a Python class is only looked up, since its metrics are not in its file.
    """
    if goal.task.startswith(FUNCTION):
        load_function(goal.task)
    elif goal.task == MODEL:
        assert goal.metric in LoadedModel().metrics
    elif "class" not in (config := load_yaml(_file(goal.task))):
        assert goal.metric in _metrics(config), f"{goal.task} has no metric {goal.metric}"


def _file(spec: str) -> Path:
    """The YAML file of a task. Raises PlanError for an unknown task or a group."""
    is_path = spec.endswith((".yaml", ".yml"))
    manager = _manager(registered=not is_path)
    _require_one(manager, spec)
    return Path(spec if is_path else manager.task_index[spec].yaml_path)


def _metrics(config: dict[str, Any]) -> list[str]:
    """As ``LoadedTask.metrics``, from a task's configuration."""
    kind = str(config.get("output_type", "generate_until"))
    names = [entry["metric"] for entry in config.get("metric_list") or ()]
    names = names or list(DEFAULT_METRIC_REGISTRY.get(kind, ()))
    further = [entry["name"] for entry in config.get("filter_list") or ()][1:]
    lengths = [RESPONSE_LENGTH] if kind == "generate_until" else []
    return [*names, *(f"{name},{filter_name}" for filter_name in further for name in names), *lengths]

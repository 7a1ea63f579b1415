"""A study's identity: what a resumed study is compared by, and what is read back from it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recipesearch.errors import PlanError
from recipesearch.plan import read_plan
from recipesearch.recipe import Parent
from recipesearch.score import Conditions
from recipesearch.study.identity import goals_of, identify_study, require_same
from recipesearch.study.results import conditions_of

CPU = Conditions("transformers", "cpu", 2, 64, "torch 2.13", "float32", False)
GPU = replace(CPU, device="cuda", gpu="NVIDIA H200")
PLAN = read_plan(
    {
        "name": "study",
        "parents": {"one": "a", "other": "b"},
        "space": {"weights": {"methods": ["linear"]}},
        "objectives": [
            {"task": "arc_easy", "metric": "acc", "bound": 0.5},
            {"task": "gsm8k", "metric": "response_length", "maximize": False, "within": 0.1},
        ],
    },
    Path(),
    "test",
)
GOALS = tuple(replace(goal, hash=f"hash of {goal.name}") for goal in PLAN.goals)


def identity(conditions: Conditions = CPU) -> dict[str, Any]:
    parents = {name: Parent(name, name) for name in PLAN.parents}
    return identify_study(PLAN, parents, {}, GOALS, conditions, "nsga2")


def test_goals_are_read_back_with_direction_bound_and_hash() -> None:
    """But not the task's place, which differs by machine."""
    assert goals_of(identity()) == tuple(replace(goal, task="") for goal in GOALS)


@pytest.mark.parametrize("conditions", [CPU, GPU, replace(GPU, options={"max_model_len": 64})])
def test_conditions_are_read_back_as_they_were(conditions: Conditions) -> None:
    stored = identity(conditions)
    assert conditions_of(stored) == conditions
    assert stored["engine"]["label"] == conditions.engine


def test_a_study_on_a_cpu_has_no_gpu_and_no_options() -> None:
    """As studies had it before there were any, so that those can be resumed."""
    assert not {"gpu", "options"} & identity()["engine"].keys()
    require_same("study", identity(), identity())


def test_a_study_is_not_resumed_on_another_gpu() -> None:
    with pytest.raises(PlanError, match=r'engine\.gpu was "NVIDIA H200", now "NVIDIA A100"'):
        require_same("study", identity(GPU), identity(replace(GPU, gpu="NVIDIA A100")))

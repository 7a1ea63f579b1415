from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipesearch.plan import Plan, load_plans

MakePlans = Callable[..., tuple[Plan, ...]]
MUTATION = {
    "eras": 3,
    "kind": "sft",
    "learning_rate": 1.0e-3,
    "steps": 40,
    "pairs": 64,
    "rank": 4,
    "elites": 3,
    "mutants": 1,
    "pool": 4,
    "immigrants": 1,
    "mates": 1,
    "tolerance": 1.0,
    "significance": 0.999,
}


@pytest.fixture(scope="session")
def raw_plan(small_tasks: dict[str, str]) -> dict[str, Any]:
    """A small study file that evolves; its gate is wide open to any gain."""
    return {
        "name": "evo",
        "parents": {"math": "zoo:math", "lang": "zoo:lang"},
        "space": {"weights": {"methods": ["linear"], "layer_groups": 2}},
        "objectives": [
            {"task": small_tasks["addition_b_search"], "metric": "exact_match"},
            {"task": small_tasks["reading_b_search"], "metric": "exact_match"},
        ],
        "held_out": [small_tasks["addition_b_held_out"], small_tasks["reading_b_held_out"]],
        "preference": [small_tasks["addition_b_preference"]],
        "search": {"sampler": "nsga2", "population": 4, "trials": 12, "seed": 1},
        "engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64},
        "mutation": MUTATION,
    }


@pytest.fixture
def make_plans(raw_plan: dict[str, Any], tmp_path: Path) -> MakePlans:
    """A function (changes to ``mutation``, other keys) -> the eras' plans."""

    def make(mutation: dict[str, Any] | None = None, **changes: Any) -> tuple[Plan, ...]:
        raw = raw_plan | changes | {"mutation": MUTATION | (mutation or {})}
        path = tmp_path / f"{raw['name']}.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        return load_plans(path)

    return make

"""Objectives of one's own: found, hashed by their source, scored beside tasks, failing as candidates do."""

import functools
import textwrap
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from recipesearch.errors import PlanError, TrialFailed
from recipesearch.plan import Plan
from recipesearch.scoring.functions import load_function
from recipesearch.search import run as search
from recipesearch.workers.worker import Worker

MakePlan = Callable[..., Plan]
run_here = functools.partial(search.run, open_worker=Worker)

SOURCE = """
from __future__ import annotations
from lm_eval.api.instance import Instance

def likelihood(lm):
    asked = [Instance("loglikelihood", {}, ("@12+34=", answer), 0) for answer in ("eg$", "eg$")]
    return [value for value, _ in lm.loglikelihood(asked, disable_tqdm=True)]

def one(lm): return 0.5
def nothing(lm): return float("nan")
def broken(lm): raise KeyError("x")

from dataclasses import dataclass

@dataclass
class Weighed:
    value: float
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "own_objectives.py"
    path.write_text(SOURCE)
    return path


def load(module: Path, name: str) -> Any:
    return load_function(f"python:{module}:{name}")


def test_one_number_and_one_for_each_item(module: Path) -> None:
    one = load(module, "one").measure(None)
    assert (one.metrics["value"].value, one.metrics["value"].stderr, one.items) == (0.5, None, {})
    three = load_function(f"python:{module}:one")
    score = type(three)(three.spec, lambda lm: [1, 2, 6], three.hash).measure(None)
    assert score.metrics["value"].value == 3
    assert score.metrics["value"].stderr == pytest.approx((7 / 3) ** 0.5)
    assert [item["value"] for item in score.items.values()] == [1, 2, 6]


@pytest.mark.parametrize(
    ("name", "words"), [("nothing", "non-finite: objective"), ("broken", "raised KeyError")]
)
def test_what_a_function_does_wrong_fails_the_trial(module: Path, name: str, words: str) -> None:
    with pytest.raises(TrialFailed, match=words):
        load(module, name).measure(None)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("python:{}:nobody", "no function"),
        ("python:nowhere.at.all:f", "cannot be imported"),
        ("python:{}x.py:f", ""),
    ],
)
def test_what_cannot_be_found_is_named(module: Path, spec: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        load_function(spec.format(module))


def test_the_hash_is_that_of_the_whole_file_and_the_name(module: Path) -> None:
    before = load(module, "one").hash
    assert load(module, "one").hash == before != load(module, "broken").hash
    module.write_text(textwrap.dedent(SOURCE).replace("0.5", "0.6"))
    assert load(module, "one").hash != before


def test_a_study_searches_on_a_function_beside_a_task(
    module: Path, make_plan: MakePlan, small_tasks: dict[str, str]
) -> None:
    task = {"task": small_tasks["addition_b_search"], "metric": "exact_match"}
    plan = make_plan(
        objectives=[task, {"function": "own_objectives:likelihood"}],
        search={"sampler": "nsga2", "population": 4, "trials": 8, "seed": 1},
    )
    results = run_here(plan)
    assert results.objectives == ["addition_b_search.exact_match", "likelihood"]
    values = [row.values[1].value for row in results.scored if row.values]
    assert len(set(values)) > 4
    assert all(value < 0 for value in values)
    math = next(row for row in results.scored if row.seed == "parent math")
    lang = next(row for row in results.scored if row.seed == "parent lang")
    assert math.values is not None
    assert lang.values is not None
    assert math.values[1].value > lang.values[1].value, "the math parent knows 12+34"


def test_the_length_of_answers_is_a_metric_of_tasks_that_generate(
    make_plan: MakePlan, small_tasks: dict[str, str]
) -> None:
    """What it counts is in test_scorer.py; answers of this task have up to four tokens."""
    length = {"task": small_tasks["addition_b_search"], "metric": "response_length", "maximize": False}
    exact = {"task": small_tasks["addition_b_search"], "metric": "exact_match"}
    results = run_here(make_plan(objectives=[exact, length], search={"trials": 6, "population": 4}))
    assert len(results.scored) == 6
    for row in results.scored:
        assert row.values is not None
        items = results.ledger.items(str(row.recipe), results.goals[1].hash).values()
        counts = [item["response_length"] for item in items]
        assert row.values[1].value == pytest.approx(fmean(counts))
        assert set(counts) <= {0, 1, 2, 3, 4}


def test_the_merge_itself_can_be_measured(make_plan: MakePlan, small_tasks: dict[str, str]) -> None:
    """As the tensors of the parents' own files have it, for the seeds that are parents."""
    import numpy as np
    from safetensors.numpy import load_file

    from recipesearch.zoo import build_zoo

    exact = {"task": small_tasks["addition_b_search"], "metric": "exact_match"}
    norm = {"task": "model", "metric": "weight_norm", "maximize": False}
    size = {"task": "model", "metric": "parameters", "maximize": False}
    results = run_here(make_plan(objectives=[exact, norm, size], search={"trials": 5, "population": 4}))
    for name in ("math", "lang"):
        tensors = load_file(build_zoo() / name / "model.safetensors").values()
        row = next(row for row in results.scored if row.seed == f"parent {name}")
        assert row.values is not None
        squares = sum(float(np.square(tensor.astype(np.float64)).sum()) for tensor in tensors)
        assert row.values[1].value == pytest.approx(squares**0.5, rel=1e-12)
        assert row.values[2].value == sum(tensor.size for tensor in tensors)


def test_files_beside_an_objective_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "beside_the_objective.py").write_text("VALUE = 0.25")
    (tmp_path / "own.py").write_text("import beside_the_objective as b\ndef value(lm): return b.VALUE")
    assert load_function(f"python:{tmp_path / 'own.py'}:value").measure(None).metrics["value"].value == 0.25


def test_a_held_out_function_is_written_as_the_searched_one(
    module: Path, make_plan: MakePlan, small_tasks: dict[str, str]
) -> None:
    module.write_text(SOURCE + "\ndef other(lm): return 0.75\n")
    plan = make_plan(
        objectives=[{"function": "own_objectives:one"}],
        held_out=["own_objectives:other"],
        search={"trials": 3, "population": 4, "sampler": "random"},
    )
    row = run_here(plan).front[0]
    assert row.values is not None
    assert row.held_out is not None
    assert (row.values[0].value, row.held_out[0].value) == (0.5, 0.75)


@pytest.mark.parametrize("spec", ["python:math:sqrt", "python:sys:exit"])
def test_a_function_without_source_is_a_plan_error(spec: str) -> None:
    """A study is kept apart from others by the functions' source."""
    with pytest.raises(PlanError, match="has no source file; wrap the function"):
        load_function(spec)

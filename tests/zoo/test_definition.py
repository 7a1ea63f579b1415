"""The hash that names the cache folder, and what zoo: references point to."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from recipesearch.errors import PlanError
from recipesearch.zoo import resolve, zoo_dir
from recipesearch.zoo.definition import STAGES, TASKS, Definition


def test_importing_the_zoo_loads_nothing_heavy():
    script = (
        "import sys, recipesearch.zoo as zoo; zoo.zoo_dir(); zoo.resolve('zoo:math');"
        "print([m for m in ('torch', 'transformers', 'mergekit', 'lm_eval', 'numpy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_hash_is_the_same_every_time():
    assert Definition().digest() == Definition().digest()
    assert len(Definition().digest()) == 12


MATH = dataclasses.replace(STAGES["math"], peak_rate=1.4e-3)
READING = dataclasses.replace(TASKS["reading_b"], skills=("maxB", "minB"))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"split_seed": 1},
        {"torch": "0.0"},
        {"transformers": "0.0"},
        {"stages": {**STAGES, "math": MATH}},
        {"tasks": {**TASKS, "reading_b": READING}},
        {"architecture": {**Definition().architecture, "hidden_size": 32}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_constant_changes_the_hash(change):
    assert dataclasses.replace(Definition(), **change).digest() != Definition().digest()


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("RECIPESEARCH_CACHE", raising=False)
    name = f"{Definition().digest()}-s3"
    assert zoo_dir(3) == tmp_path / "xdg" / "recipesearch" / "zoo" / name
    monkeypatch.setenv("RECIPESEARCH_CACHE", str(tmp_path / "own"))
    assert zoo_dir(3) == tmp_path / "own" / "zoo" / name


def test_the_cache_folder_is_absolute_because_task_files_name_it(monkeypatch):
    monkeypatch.setenv("RECIPESEARCH_CACHE", "relative")
    assert zoo_dir() == Path.cwd() / "relative" / "zoo" / f"{Definition().digest()}-s0"


def test_references_name_models_tasks_and_seeds():
    assert resolve("zoo:math") == zoo_dir() / "math"
    assert resolve("zoo@1:lang") == zoo_dir(1) / "lang"
    assert resolve("zoo:tasks/addition_b_search.yaml") == zoo_dir() / "tasks" / "addition_b_search.yaml"
    assert resolve("zoo:tasks/reading_b_held_out.jsonl") == zoo_dir() / "tasks" / "reading_b_held_out.jsonl"


@pytest.mark.parametrize("text", ["", "math", "./zoo", "/zoo/math", "zoology:math", "org/zoo", "Zoo:math"])
def test_other_strings_are_no_references(text):
    assert resolve(text) is None


@pytest.mark.parametrize("text", ["zoo:", "zoo:maths", "zoo:../math", "zoo:math/", "zoo:tasks/x.yaml"])
def test_an_unknown_name_is_refused_with_the_known_ones(text):
    with pytest.raises(PlanError, match=r"base, math, lang, tasks/addition_a_search\.yaml"):
        resolve(text)


@pytest.mark.parametrize("text", ["zoo@:math", "zoo@one:math", "zoo@-1:math", "zoo@٣:math"])
def test_a_seed_must_be_a_whole_number(text):
    with pytest.raises(PlanError, match="whole number"):
        resolve(text)

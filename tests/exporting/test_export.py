"""The export of a winner over an adapter on a plain model: its commands work, and it is whole or says so."""

import functools
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from recipesearch.checking.members import open_preflight
from recipesearch.checking.preflight import Preflight
from recipesearch.errors import PlanError, StudyError
from recipesearch.exporting.export import export
from recipesearch.exporting.verify import verify
from recipesearch.merging.materialize import merger
from recipesearch.merging.stock import require_equal
from recipesearch.parents.identify import read_recipe
from recipesearch.plan import Plan, load_plans
from recipesearch.recipe import Recipe
from recipesearch.recipe.mergekit_yaml import to_yaml
from recipesearch.search import run as search
from recipesearch.study.results import Results, Row
from recipesearch.workers.worker import Worker

peft = pytest.importorskip("peft")
MakePlan = Callable[..., Plan]
run_here = functools.partial(search.run_eras, open_worker=Worker)


class Won(NamedTuple):
    """The average of two models, one of which has an adapter."""

    checked: Preflight
    results: Results
    row: Row

    @property
    def recipe(self) -> Recipe:
        return self.checked.space.express(self.row.genome)

    def export(self, folder: Path) -> Path:
        return export(self.checked, self.results, self.row, folder)


@pytest.fixture(scope="module")
def won(
    zoo: Path, small_tasks: dict[str, str], tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> Won:
    folder = tmp_path_factory.mktemp("adapted")
    raw = {
        "name": "study",
        "parents": {"math": f"zoo:math+{adapter(zoo / 'math', folder / 'lora').name}", "lang": "zoo:lang"},
        "space": {"weights": {"methods": ["linear"], "layer_groups": 1}},
        "objectives": [{"task": small_tasks["addition_b_search"], "metric": "exact_match"}],
        "search": {"sampler": "nsga2", "population": 4, "trials": 3, "seed": 1},
        "engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(raw))
    (plan,) = load_plans(folder / "study.yaml")
    results = run_here((plan,))
    row = next(row for row in results.rows if row.seed == "uniform average")
    return Won(open_preflight(plan, results.database), results, row)


def adapter(model: Path, folder: Path) -> Path:
    """A small PEFT adapter of random weights, with the pairs that a training leaves beside it."""
    import torch
    import transformers

    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(model)
        peft.get_peft_model(loaded, config).save_pretrained(folder)
    (folder / "mutant.json").write_text('{"pairs_digest": "cd"}')
    (folder / "pairs.jsonl").write_text('{"prompt": "private"}')
    return folder


def run_printed(command: str, folder: Path) -> None:
    """Runs a command as a user would who has copied it."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, shell=True, cwd=folder, env=environment, check=True, capture_output=True)


def rebuilt(recipe: Recipe, folder: Path) -> int:
    return require_equal(merger(recipe.parents()).stream(recipe), folder)


@pytest.mark.long
def test_the_command_on_the_card_rebuilds_a_winner_over_an_adapter(won: Won, tmp_path: Path) -> None:
    recipe = won.export(tmp_path / "out")
    (command,) = re.findall(r"## Rebuild\n\n```\n(.+)\n```", (tmp_path / "out" / "README.md").read_text())
    run_printed(command, recipe.parent)
    assert rebuilt(won.recipe, recipe.parent / "model") == 39


@pytest.mark.long
def test_the_command_that_verify_prints_for_a_recipe_with_an_adapter_works(won: Won, tmp_path: Path) -> None:
    """A file that somebody has written: there is no script beside it."""
    file = tmp_path / "mine.yaml"
    file.write_text(to_yaml(won.recipe, lambda parent: parent.reference, {"threads": 1}))
    proof = verify(file)
    assert str(file) in proof.command
    run_printed(proof.command, tmp_path)
    assert rebuilt(won.recipe, tmp_path / "OUTPUT") == 39


def test_a_score_on_a_part_of_a_task_is_verified_on_that_part(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(search={"sampler": "merge_gp", "trials": 6, "seed": 1, "items": 30})
    results = search.run(plan, open_worker=Worker)
    row = results.front[0]
    assert row.values
    assert row.values[0].items
    assert row.values[0].items < 300
    file = export(open_preflight(plan, results.database), results, row, tmp_path / "out")
    assert verify(file).scores == {
        goal.name: measured.value for goal, measured in zip(results.goals, row.values, strict=True)
    }


def test_the_pairs_that_an_adapter_learned_from_are_not_exported(won: Won, tmp_path: Path) -> None:
    (copied,) = won.export(tmp_path / "out").parent.glob("adapter-*")
    assert {"adapter_model.safetensors", "mutant.json"} <= names(copied)
    assert "pairs.jsonl" not in names(copied)


@pytest.mark.parametrize("again", [False, True], ids=["the first", "one over another"])
@pytest.mark.parametrize("at", ["bundle.shutil.copytree", "export.write_script", "export.model_card"])
def test_an_export_that_was_cut_short_is_repeated_and_never_taken_for_whole(
    won: Won, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, again: bool
) -> None:
    out = tmp_path / "out"
    whole = names(won.export(tmp_path / "whole").parent)
    if again:
        won.export(out)
    for error, seen in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "disk full"), StudyError)):
        with monkeypatch.context() as cut:
            cut.setattr(f"recipesearch.exporting.{at}", stops(at, error))
            with pytest.raises(seen):
                won.export(out)
        with pytest.raises(PlanError, match="no 'merge_method'"):
            verify(out / "recipe.yaml")
    assert read_recipe(won.export(out))[0].digest == won.recipe.digest
    assert names(out) == whole


def stops(at: str, error: BaseException) -> Callable[..., None]:
    """A step of the export that does its work and then fails."""
    does = pkgutil.resolve_name(f"recipesearch.exporting.{at}")

    def step(*arguments: Any, **named: Any) -> None:
        does(*arguments, **named)
        raise error

    return step


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}

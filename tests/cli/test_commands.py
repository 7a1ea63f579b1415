"""The commands a user types, end to end on a small real study."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipesearch.analysis.generations import Convergence
from recipesearch.plan import Plan, load_plan
from recipesearch.study.results import open_results
from recipesearch.study.storage import Database

MakePlan = Callable[..., Plan]
Command = Callable[..., Any]


@pytest.fixture
def study(command: Command, make_plan: MakePlan, small_tasks: dict[str, str]) -> Path:
    """A finished study's file."""
    held_out = [small_tasks["addition_b_held_out"], small_tasks["reading_b_held_out"]]
    plan = make_plan(held_out=held_out, search={"trials": 8, "population": 4, "seed": 1})
    path = plan.folder / f"{plan.name}.yaml"
    assert command("run", path).code == 0
    return path


def test_init_check_run_on_the_template(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "study.yaml"
    assert command("init", target).code == 0
    assert command("init", target).code == 2, "never over an existing file"
    data = json.loads(command("check", target, "--json").out)
    assert data["architecture"] == "LlamaForCausalLM"
    assert data["items_per_recipe"] == 600
    assert data["memory_bytes"] > 0
    small = ["--set", "search.trials=2", "--set", "held_out=[]", "--set", "engine.threads=1"]
    front = json.loads(command("run", target, *small, "--json").out)
    assert front
    another = json.loads(command("check", target, *small, "--set", "name=another", "--json").out)
    assert list(another["known_recipes"].values()) == [2], "a new study learns from the first one's scores"


def test_check_says_which_sampler_auto_takes_and_why(command: Command, make_plan: MakePlan) -> None:
    plan = make_plan(search={"trials": 8})
    data = json.loads(command("check", plan.folder / "study.yaml", "--json").out)
    assert data["sampler"].startswith("merge_gp (a model of the merges")


def test_sweep_prints_a_table_and_writes_a_plot(
    command: Command, make_plan: MakePlan, tmp_path: Path
) -> None:
    plan = make_plan()
    arguments = ["sweep", plan.folder / "study.yaml", "--between", "math", "lang", "--steps", 3]
    done = command(*arguments, "--json", "--html", tmp_path / "sweep.html")
    assert [row["ratio"] for row in json.loads(done.out)] == [0.25, 0.5, 0.75]
    assert "wrote" in done.err
    assert (tmp_path / "sweep.html").stat().st_size > 1_000_000, "plotly is inside"
    assert "from math (0) to lang (1)" in command(*arguments).out
    assert command("sweep", plan.folder / "study.yaml", "--between", "math", "none").code == 2


def test_every_table_has_json_and_goes_to_stdout(command: Command, study: Path) -> None:
    for name in (["status"], ["front"], ["diversity"], ["show", study, 0]):
        arguments = name if len(name) > 1 else [*name, study]
        as_json = command(*arguments, "--json")
        json.loads(as_json.out)
        assert as_json.err == ""
        assert command(*arguments).out.strip()


def test_a_study_is_named_by_plan_database_or_url(command: Command, study: Path) -> None:
    database = study.with_suffix(".db")
    wanted = json.loads(command("front", study, "--json").out)
    for name in (database, f"sqlite:///{database}", f"sqlite:///{database}#study"):
        assert json.loads(command("front", name, "--json").out) == wanted


def test_export_merge_verify(command: Command, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "winner"
    assert command("export", study, "-o", out, "--best", "addition_b_search.exact_match").code == 0
    recipe = out / "recipe.yaml"
    raw = yaml.safe_load(recipe.read_text())
    assert set(raw["recipesearch"]["scores"]) == {
        "addition_b_search.exact_match",
        "reading_b_search.exact_match",
    }
    card = (out / "README.md").read_text()
    assert card.startswith("---\n")
    assert "tags:\n- mergekit\n- merge" in card
    assert f"--random-seed {raw['recipesearch']['seed']} -j 1" in card
    assert command("merge", recipe, "-o", tmp_path / "model").code == 0
    assert (tmp_path / "model" / "model.safetensors").exists() or list(
        (tmp_path / "model").glob("*.safetensors")
    )
    proof = json.loads(command("verify", recipe, "--json").out)
    assert proof["tensors"] == 39
    _plan, results = open_results(Database(load_plan(study).storage_url))
    best = results.best("addition_b_search.exact_match")
    assert best.values is not None
    assert list(proof["scores"].values()) == [value.value for value in best.values]


def test_portable_export_names_parents_as_the_study_does(
    command: Command, study: Path, tmp_path: Path
) -> None:
    assert command("export", study, "-o", tmp_path / "w", "--portable").code == 0
    raw = yaml.safe_load((tmp_path / "w" / "recipe.yaml").read_text())
    assert {s["model"] for part in raw["slices"] for s in part["sources"]} <= {"zoo:math", "zoo:lang"}


def test_a_study_with_relative_tasks_is_verified_from_anywhere(
    command: Command, make_plan: MakePlan, small_tasks: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "tasks").symlink_to(Path(small_tasks["addition_b_search"]).parent)
    goals = [{"task": "tasks/addition_b_search.yaml", "metric": "exact_match"}]
    plan = make_plan(objectives=goals, search={"trials": 3, "population": 4, "seed": 1})
    assert command("run", plan.folder / "study.yaml").code == 0
    out = tmp_path / "some" / "where"
    assert command("export", plan.folder / "study.yaml", "-o", out).code == 0
    assert command("verify", out / "recipe.yaml").code == 0


def test_export_refuses_a_trial_whose_parents_have_changed(
    command: Command, make_plan: MakePlan, zoo: Path, tmp_path: Path
) -> None:
    parent = shutil.copytree(zoo / "lang", tmp_path / "lang")
    plan = make_plan(
        parents={"math": "zoo:math", "lang": "lang"}, search={"trials": 3, "population": 4, "seed": 1}
    )
    assert command("run", plan.folder / "study.yaml").code == 0
    shutil.copytree(zoo / "base", parent, dirs_exist_ok=True)
    ended = command(
        "export", plan.folder / "study.yaml", "-o", tmp_path / "out", "--best", plan.goals[1].name
    )
    assert ended.code == 3
    assert "a parent has changed since" in ended.err
    assert not (tmp_path / "out").exists()


def test_shown_recipes_are_exact_on_any_width(
    command: Command, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shown = command("show", study, 0).out
    assert json.loads(command("show", study, 0, "--json").out)["yaml"] in shown


def test_export_of_the_whole_front(command: Command, study: Path, tmp_path: Path) -> None:
    front = json.loads(command("front", study, "--json").out)
    assert command("export", study, "-o", tmp_path / "all", "--front").code == 0
    assert {path.name for path in (tmp_path / "all").iterdir()} == {f"trial-{row['trial']}" for row in front}


def test_export_removes_nothing_that_no_export_has_left(
    command: Command, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "tokenizer").mkdir(parents=True)
    (out / "tokenizer" / "tokenizer.json").write_text("{}")
    for recipe in (None, "merge_method: linear\n", "- recipesearch\n", "a: [", "12"):
        if recipe:
            (out / "recipe.yaml").write_text(recipe)
        before = {path: path.is_file() and path.read_text() for path in out.rglob("*")}
        ended = command("export", study, "-o", out)
        assert ended.code == 4
        assert "is not from an earlier export" in ended.err
        assert {path: path.is_file() and path.read_text() for path in out.rglob("*")} == before


def test_export_clears_what_an_earlier_one_has_left(command: Command, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command("export", study, "-o", out).code == 0
    (out / "tokenizer").mkdir()
    (out / "rebuild.sh").touch()
    (out / "model").mkdir()
    assert command("export", study, "-o", out).code == 0
    assert {path.name for path in out.iterdir()} == {"recipe.yaml", "README.md", "model"}


def test_diversity_has_a_line_for_each_generation(command: Command, study: Path) -> None:
    data = json.loads(command("diversity", study, "--json").out)
    assert [row["trials"] for row in data["generations"]] == [4, 4]
    assert [row["generation"] for row in data["generations"]] == [0, 1]
    assert sum(data["hypervolume_by_parent"].values()) == pytest.approx(1.0)
    assert (data["active_genes"], data["population"], data["converged"]) == (True, 4, None)
    shown = command("diversity", study).out
    assert all(word in shown for word in ("behavioural", "genotypic", "distinct", "math", "lang"))


def test_diversity_says_in_words_that_a_search_has_converged(
    command: Command, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Convergence(0.4, 0.05, 3)
    monkeypatch.setattr("recipesearch.analysis.generations.converged", lambda history: found)
    said = command("diversity", study).out
    assert "has converged, perhaps too early" in said
    assert "5.0% of the items, two of the first generation on 40.0%" in said
    assert json.loads(command("diversity", study, "--json").out)["converged"]["still"] == 3


def test_diversity_without_the_parents_counts_all_genes_and_says_so(
    command: Command, make_plan: MakePlan, zoo: Path, tmp_path: Path
) -> None:
    parent = shutil.copytree(zoo / "lang", tmp_path / "lang")
    plan = make_plan(
        parents={"math": "zoo:math", "lang": "lang"}, search={"trials": 3, "population": 4, "seed": 1}
    )
    path = plan.folder / "study.yaml"
    assert command("run", path).code == 0
    shutil.copytree(zoo / "base", parent, dirs_exist_ok=True)
    changed = command("diversity", path, "--json")
    shutil.rmtree(parent)
    gone = command("diversity", path, "--json")
    for ended in (changed, gone):
        assert ended.code == 0
        assert "idle genes count too" in ended.err
        data = json.loads(ended.out)
        assert not data["active_genes"]
        assert data["hypervolume_by_parent"] == {}
        assert data["generations"][0]["behavioural"] > 0
    assert "has changed since" in changed.err


def test_front_page_is_written(command: Command, study: Path, tmp_path: Path) -> None:
    assert command("front", study, "--html", tmp_path / "front.html").code == 0
    assert (tmp_path / "front.html").read_text().startswith("<!")


@pytest.mark.parametrize(
    ("sign", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.long), (signal.SIGTERM, 143)]
)
def test_interrupted_commands_keep_their_work(make_plan: MakePlan, sign: signal.Signals, code: int) -> None:
    plan = make_plan(search={"trials": 500, "population": 4, "seed": 1})
    words = [sys.executable, "-m", "recipesearch", "run", str(plan.folder / "study.yaml")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while _scored(plan) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    assert process.poll() is None, process.communicate()
    os.kill(process.pid, sign)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "finished work is kept" in err
    assert "Traceback" not in err
    assert out == ""
    assert _scored(plan) >= 3


def _scored(plan: Plan) -> int:
    try:
        return len(open_results(Database(plan.storage_url), plan.name)[1].scored)
    except Exception:  # not begun yet
        return 0

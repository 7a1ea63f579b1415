"""Bad input never costs data: a clear message, its exit code, no traceback, nothing half-written."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from recipesearch.plan import Plan

MakePlan = Callable[..., Plan]
Command = Callable[..., Any]


def plan_file(plan: Plan) -> Path:
    return plan.folder / f"{plan.name}.yaml"


def edit(plan: Plan, change: Callable[[dict[str, Any]], None]) -> Path:
    raw = yaml.safe_load(plan_file(plan).read_text())
    change(raw)
    plan_file(plan).write_text(yaml.safe_dump(raw, sort_keys=False))
    return plan_file(plan)


@pytest.fixture
def parent(zoo: Path, tmp_path: Path) -> Path:
    """A copy of a zoo model, to be damaged."""
    return Path(shutil.copytree(zoo / "lang", tmp_path / "parent"))


def with_parent(make_plan: MakePlan, parent: Path) -> Path:
    return plan_file(make_plan(parents={"math": "zoo:math", "other": str(parent)}))


def refuses(command: Command, study: Path, code: int, *words: str) -> None:
    """Both check and run end with the code and one or two lines that say the words; nothing is written."""
    before = sorted(study.parent.iterdir())
    for name in ("check", "run"):
        ended = command(name, study)
        assert ended.code == code, ended
        assert len(ended.err.strip().splitlines()) <= 2
        assert "Traceback" not in ended.err
        for word in words:
            assert word in ended.err
    assert sorted(study.parent.iterdir()) == before


def test_unknown_key_names_the_nearest(command: Command, make_plan: MakePlan) -> None:
    study = edit(make_plan(), lambda raw: raw["search"].update(populaton=3))
    refuses(command, study, 2, "search.populaton", "did you mean 'population'?")


def test_method_that_needs_a_base_without_one(command: Command, make_plan: MakePlan) -> None:
    study = edit(make_plan(), lambda raw: raw["space"]["weights"].update(methods=["linear", "ties"]))
    refuses(command, study, 2, "'ties' needs a base")


def test_parent_folder_missing(command: Command, make_plan: MakePlan, tmp_path: Path) -> None:
    refuses(command, with_parent(make_plan, tmp_path / "absent"), 3, "absent", "no such model folder")


def test_pickled_parent(command: Command, make_plan: MakePlan, parent: Path) -> None:
    torch.save(load_file(parent / "model.safetensors"), parent / "pytorch_model.bin")
    (parent / "model.safetensors").unlink()
    refuses(command, with_parent(make_plan, parent), 3, "pytorch_model.bin is a pickle", "safetensors")


@pytest.mark.parametrize("damage", ["header", "truncated"])
def test_damaged_parent(command: Command, make_plan: MakePlan, parent: Path, damage: str) -> None:
    file = parent / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(b"\xff" * 8 + content[8:] if damage == "header" else content[: len(content) // 2])
    refuses(command, with_parent(make_plan, parent), 3, str(file), "not a complete safetensors file")


def change_config(parent: Path, **changes: Any) -> None:
    config = json.loads((parent / "config.json").read_text())
    (parent / "config.json").write_text(json.dumps(config | changes))


def test_parent_of_another_architecture(command: Command, make_plan: MakePlan, parent: Path) -> None:
    change_config(parent, architectures=["MistralForCausalLM"])
    refuses(command, with_parent(make_plan, parent), 3, "different architectures", "MistralForCausalLM")


def test_parent_with_another_layer_count(command: Command, make_plan: MakePlan, parent: Path) -> None:
    change_config(parent, num_hidden_layers=3)
    refuses(command, with_parent(make_plan, parent), 3, "different layer counts (4 and 3)")


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"])
def test_parent_with_another_shape_names_the_tensor(
    command: Command, make_plan: MakePlan, parent: Path, name: str
) -> None:
    tensors = load_file(parent / "model.safetensors")
    tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, parent / "model.safetensors", metadata={"format": "pt"})
    if "embed" in name:
        change_config(parent, vocab_size=47)
    refuses(command, with_parent(make_plan, parent), 3, name)


def test_the_same_model_twice(command: Command, make_plan: MakePlan, zoo: Path) -> None:
    study = plan_file(make_plan(parents={"math": "zoo:math", "again": str(zoo / "math")}))
    refuses(command, study, 3, "'math' and 'again' are the same model")


def test_unknown_metric(command: Command, make_plan: MakePlan) -> None:
    study = edit(make_plan(), lambda raw: raw["objectives"][1].update(metric="exact_mach"))
    refuses(command, study, 2, "no metric 'exact_mach'", "did you mean 'exact_match'?")


def test_sampler_that_does_not_fit(command: Command, make_plan: MakePlan) -> None:
    study = edit(make_plan(), lambda raw: raw["search"].update(sampler="cmaes"))
    refuses(command, study, 2, "cmaes needs numeric genes", "nsga2")


def test_nan_in_a_parent_fails_its_trials_and_stays_off_the_front(
    command: Command, make_plan: MakePlan, parent: Path
) -> None:
    tensors = load_file(parent / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, parent / "model.safetensors", metadata={"format": "pt"})
    parents = {"math": "zoo:math", "lang": "zoo:lang", "broken": str(parent)}
    space = {"weights": {"methods": ["linear"], "parents": "subset"}}
    study = plan_file(
        make_plan(
            parents=parents,
            space=space,
            search={"trials": 6, "population": 4, "seed": 2, "max_failure_rate": 1},
        )
    )
    assert command("run", study).code == 0
    status = json.loads(command("status", study, "--json").out)
    assert status["scored"] == 6
    assert status["failed"] >= 1
    assert all("non-finite" in cause and "model.norm.weight" in cause for cause in status["failures"])
    for row in json.loads(command("front", study, "--json").out):
        recipe = json.loads(command("show", study, row["trial"], "--json").out)["yaml"]
        assert str(parent) not in recipe


def test_a_study_resumed_with_a_changed_space(command: Command, make_plan: MakePlan) -> None:
    plan = make_plan(search={"trials": 3, "population": 4, "seed": 1})
    assert command("run", plan_file(plan)).code == 0
    study = edit(plan, lambda raw: raw["space"]["weights"].update(layer_groups=4))
    ended = command("run", study)
    assert ended.code == 2
    assert "layer_groups was 2, now 4" in ended.err
    assert json.loads(command("status", study, "--json").out)["scored"] == 3, "nothing was lost"


@pytest.mark.parametrize("half_written", ["recipe.yaml", "README.md"])
def test_disk_full_while_exporting(
    command: Command, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, half_written: str
) -> None:
    plan = make_plan(search={"trials": 3, "population": 4, "seed": 1})
    assert command("run", plan_file(plan)).code == 0
    out = plan.folder / "out"
    import recipesearch.files as files

    original = files.os.fsync

    def full(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        if half_written in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    ended = command("export", plan_file(plan), "-o", out)
    assert ended.code == 4
    assert "No space left" in ended.err
    assert not any(half_written in path.name for path in out.glob("*"))


def test_disk_full_while_merging(command: Command, zoo: Path, tmp_path: Path) -> None:
    """On a real file system of one page too few."""
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(small)], check=False)
    if done.returncode:
        pytest.skip("this machine does not let the test mount a file system")
    try:
        recipe = tmp_path / "recipe.yaml"
        models = [{"model": str(zoo / n), "parameters": {"weight": 0.5}} for n in ("math", "lang")]
        recipe.write_text(yaml.safe_dump({"merge_method": "linear", "models": models, "dtype": "float32"}))
        ended = command("merge", recipe, "-o", small / "model")
        assert ended.code == 4
        assert "nothing was left there" in ended.err
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_wrong_usage_ends_with_2(command: Command, tmp_path: Path) -> None:
    assert command("run").code == 2
    assert command("run", tmp_path / "absent.yaml").code == 2
    assert command("export", tmp_path / "absent.db", "-o", tmp_path / "x", "--knee", "--front").code == 2
    assert command("status", tmp_path / "absent.db").code == 4


def test_a_recipe_that_was_changed_after_scoring_fails_verification(
    command: Command, make_plan: MakePlan
) -> None:
    plan = make_plan(search={"trials": 3, "population": 4, "seed": 1})
    assert command("run", plan_file(plan)).code == 0
    assert command("export", plan_file(plan), "-o", plan.folder / "out").code == 0
    recipe = plan.folder / "out" / "recipe.yaml"
    raw = yaml.safe_load(recipe.read_text())
    raw["parameters"] = {"normalize": True}
    recipe.write_text(yaml.safe_dump(raw, sort_keys=False))
    ended = command("verify", recipe)
    assert ended.code == (5 if raw["merge_method"] == "linear" else 2)

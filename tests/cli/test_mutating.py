"""The command mutate, end to end on a small real study, in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("peft")
pytest.importorskip("trl")

from recipesearch.errors import TrialFailed
from recipesearch.mutation.training import train
from recipesearch.parents.identify import identify
from recipesearch.plan import Plan
from recipesearch.workers.worker import Worker

MakePlan = Callable[..., Plan]
Command = Callable[..., Any]
SHORT = ["--set", "mutation.steps=3", "--set", "pairs=16", "--set", "samples=2"]


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipesearch.mutation.by_hand.Supervised", Worker)
    monkeypatch.setattr("recipesearch.mutation.by_hand.train_apart", train)


@pytest.fixture
def study(command: Command, make_plan: MakePlan, small_tasks: dict[str, str]) -> Path:
    """A finished study's file, of which trial 2 is the average of its parents."""
    plan = make_plan(
        preference=[small_tasks["addition_b_preference"]],
        search={"trials": 3, "population": 4, "seed": 1},
        mutation={"learning_rate": 1e-3},
    )
    path = plan.folder / f"{plan.name}.yaml"
    assert command("run", path).code == 0
    return path


def edit(study: Path, **changes: Any) -> None:
    raw = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump(raw | changes, sort_keys=False))


def test_a_trial_is_mutated_and_the_reference_names_the_mutant(command: Command, study: Path) -> None:
    left = study.parent / "study.parents" / ".0123.elsewhere-1-1.abc.partial"
    left.mkdir(parents=True)
    done = command("mutate", study, "--trial", 2, *SHORT, "--json")
    assert done.code == 0, done.err
    assert not left.exists(), "what a killed training has left"
    data = json.loads(done.out)
    assert isinstance(data["accepted"], bool)
    assert (data["settings"]["steps"], data["settings"]["learning_rate"]) == (3, 1e-3)
    assert (data["pairs"], data["trained"]["steps"]) == (16, 3)
    assert [change["items"] for change in data["changes"]] == [40, 40]
    shown = json.loads(command("show", study, 2, "--json").out)
    assert data["source"].startswith(shown["recipe"])
    mutant = identify(data["reference"], study.parent)
    assert mutant.digest != data["source"]

    again = command("mutate", study, "--trial", 2, *SHORT)
    assert again.code == 0
    assert "mining" not in again.err, "its adapter is there"
    assert again.out.splitlines()[-1] == data["reference"]
    assert "addition_b_search.exact_match" in again.out
    verdict = "accepted; better" if data["accepted"] else "rejected; "
    assert verdict in " ".join(again.out.split())
    (told,) = json.loads(command("status", study, "--json").out)["mutants"]
    assert told == {"source": "trial 2 of study", "accepted": data["accepted"], "reason": data["reason"]}
    shown = command("status", study).out
    assert "trial 2 of study" in shown
    assert ("accepted" if data["accepted"] else "rejected") in shown

    other = study.with_name("next.yaml")
    other.write_text(study.read_text())
    parents = {"mutant": data["reference"], "lang": "zoo:lang"}
    edit(other, name="next", parents=parents, storage="sqlite:///next.db")
    assert command("check", other).code == 0
    assert command("run", other).code == 0
    assert command("export", other, "-o", study.parent / "winner").code == 0
    assert data["reference"].rpartition("/")[2] in (study.parent / "winner" / "recipe.yaml").read_text()


def test_a_setting_that_does_not_fit_is_named(command: Command, study: Path) -> None:
    for setting, words in (
        ("mutation.stepz=3", "unknown key 'mutation.stepz': did you mean 'steps'?"),
        ("stepz=3", "unknown key 'mutation.stepz': did you mean 'steps'?"),
        ("steps=0", "mutation.steps: Input should be greater than 0"),
        ("steps", "write it as key=value"),
        ("steps=[", "the value is not YAML"),
    ):
        ended = command("mutate", study, "--trial", 2, "--set", setting)
        assert ended.code == 2
        assert words in ended.err
        assert len(ended.err.strip().splitlines()) == 1


def test_what_cannot_be_mutated_is_refused_before_anything_is_trained(command: Command, study: Path) -> None:
    pairs = study.parent / "bad.jsonl"
    pairs.write_text("{}\n")
    for arguments, code, words in (
        (["--trial", 99], 2, "the study has no trial 99"),
        (["--trial", 2, "--preference", "bad.jsonl"], 2, "bad.jsonl, line 1: a pair is a JSON object"),
    ):
        ended = command("mutate", study, *arguments)
        assert (ended.code, words in ended.err) == (code, True), ended.err
    edit(study, preference=[])
    ended = command("mutate", study, "--trial", 2)
    assert ended.code == 2
    assert "name its items under 'preference'" in ended.err
    assert not (study.parent / "study.parents").exists()


def test_what_the_search_asks_is_not_learned_from(
    command: Command, study: Path, small_tasks: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the command names it, by another path: the gate would ask what the mutant knows by heart."""
    searched = Path(small_tasks["addition_b_search"])
    monkeypatch.chdir(searched.parent)
    ended = command("mutate", study, "--trial", 2, "--preference", searched.name)
    assert ended.code == 2
    assert "is searched or held out" in ended.err


def test_a_trial_without_a_score_is_refused(
    command: Command, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **named: object) -> None:
        raise TrialFailed("boom")

    monkeypatch.setattr(Worker, "score", fail)
    edit(study, search={"trials": 4, "population": 4, "seed": 1})
    command("run", study)
    ended = command("mutate", study, "--trial", 3)
    assert ended.code == 4
    assert "trial 3 has no score" in ended.err


def test_a_sweep_makes_a_mutant_for_each_value_of_the_same_pairs(
    command: Command, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mined = []
    mine = Worker.mine
    monkeypatch.setattr(Worker, "mine", lambda *arguments: mined.append(1) or mine(*arguments))
    done = command("mutate", study, "--trial", 2, *SHORT, "--sweep", "learning_rate=1e-4,1e-2", "--json")
    assert done.code == 0, done.err
    gentle, harsh = json.loads(done.out)
    assert [one["settings"]["learning_rate"] for one in (gentle, harsh)] == [1e-4, 1e-2]
    assert gentle["pairs_digest"] == harsh["pairs_digest"]
    assert gentle["trained"]["kl"] < harsh["trained"]["kl"]
    assert gentle["reference"] != harsh["reference"]
    assert len(mined) == 1

    shown = command("mutate", study, "--trial", 2, *SHORT, "--sweep", "learning_rate=1e-4,1e-2")
    assert len(mined) == 1
    assert "learning_rate=1e-2" in " ".join(shown.out.split())


def test_a_sweep_of_what_makes_no_other_mutant_is_refused(command: Command, study: Path) -> None:
    """It would train one mutant twice."""
    done = command("mutate", study, "--trial", 2, "--sweep", "significance=0.01,0.05")
    assert done.code == 2
    assert "--sweep significance: not a training setting; known: kind, chosen" in done.err


@pytest.mark.parametrize("sweep", ["learning_rate", "learning_rate="])
def test_a_sweep_without_values_is_refused(sweep: str, command: Command, study: Path) -> None:
    done = command("mutate", study, "--trial", 2, "--sweep", sweep)
    assert done.code == 2
    assert "key=value,value" in done.err

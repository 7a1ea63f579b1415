"""The lineage of a real study's trials: of weights, of bred parents, of a hybrid; in status and card too."""

import functools
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from recipesearch import cli
from recipesearch.analysis.family import Edge
from recipesearch.analysis.trace import Lineage, Node, trace
from recipesearch.checking.members import open_preflight
from recipesearch.checking.preflight import Preflight
from recipesearch.errors import RefusedInput, StudyError
from recipesearch.exporting.export import export
from recipesearch.mutation.bred import keep
from recipesearch.parents.identify import adapted, identify
from recipesearch.plan import MutationPlan, Plan, load_plans
from recipesearch.recipe import Parent
from recipesearch.search import run as search
from recipesearch.study.chain import origins
from recipesearch.study.mutants import Mutant, Mutants
from recipesearch.study.results import Results, Row, open_results
from recipesearch.study.storage import Database
from recipesearch.workers.worker import Worker

run_here = functools.partial(search.run_eras, open_worker=Worker)
WEIGHTS = {"weights": {"methods": ["linear"], "layer_groups": 1}}
LAYERS = {
    "name": "layers",
    "parents": {"winner": "front:knee", "lang": "zoo:lang"},
    "space": {"layers": {"depth": [3, 6]}},
}
KEY, VARIANT = "0123456789abcdef", "fedcba9876543210"
TRAINED = {
    "source": "",
    "pairs": 128,
    "pairs_digest": "cd" * 32,
    "seed": 11,
    "settings": {"kind": "dpo", "chosen": "reference", "beta": 0.1, "learning_rate": 2e-5, "steps": 60,
                 "batch": 16, "rank": 4},
    "trained": {"steps": 42, "stopped": "margin 21"},
}  # fmt: skip
ADDITION = "addition_b_search.exact_match"
CHANGES = [{"name": ADDITION, "before": 0.25, "after": 0.5, "p": 0.01}]


class Bred(NamedTuple):
    """A study of three eras: weights over two models; over a winner, its mutant and a model; layers."""

    plans: tuple[Plan, ...]
    winner: Row
    mutant: Parent


@pytest.fixture(scope="module")
def bred(
    zoo: Path, small_tasks: dict[str, str], tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> Bred:
    folder = tmp_path_factory.mktemp("bred")
    shutil.copytree(zoo / "math", folder / "adder")
    (folder / "adder" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    first = {"name": "e1", "space": WEIGHTS}
    variant = f"adder+{adapter(zoo / 'math', folder / 'evo.parents' / VARIANT, identify('adder', folder))}"
    (plan,) = load_plans(written(folder, small_tasks, [first]))
    results = run_here((plan,))
    winner = next(row for row in results.rows if row.seed == "uniform average")
    recipe = checked_of(plan).space.express(winner.genome)
    mutant = adapted(Parent(recipe.digest, recipe), adapter(zoo / "math", plan.bred / KEY, seed=1))
    digests = (recipe.digest, mutant.digest)
    record = TRAINED | {"rule": "knee", "preference": ["zoo:tasks/p.yaml"], "changes": CHANGES}
    mutants = Mutants(Database(plan.storage_url))
    mutants.add(Mutant(KEY, plan.name, winner.number, *digests, True, "better: it", record))
    parents = {
        "e1t": keep(plan, Parent(recipe.digest, recipe), {}),
        "e1tm": keep(plan, mutant, {}),
        "lang": "zoo:lang",
    }
    second = {"name": "e2", "parents": parents, "space": WEIGHTS}
    plans = load_plans(written(folder, small_tasks, [first, second, LAYERS]))
    run_here(plans)
    third = {"name": "e3", "parents": {"more": variant, "lang": "zoo:lang"}, "space": WEIGHTS}
    run_here(load_plans(written(folder, small_tasks, [third], "variants")))
    return Bred(plans, winner, mutant)


def written(folder: Path, tasks: dict[str, str], eras: list[dict[str, Any]], name: str = "evo") -> Path:
    raw = {
        "name": name,
        "parents": {"math": "adder", "lang": "zoo:lang"},
        "objectives": [
            {"task": tasks["addition_b_search"], "metric": "exact_match"},
            {"task": tasks["reading_b_search"], "metric": "exact_match"},
        ],
        "search": {"sampler": "nsga2", "population": 4, "trials": 5, "seed": 1},
        "eras": eras,
        "engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder / f"{name}.yaml"


def adapter(model: Path, folder: Path, source: Parent | None = None, seed: int = 0) -> Path:
    """A small PEFT adapter of random weights, as a training would leave it."""
    import peft
    import torch
    import transformers

    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(model)
        peft.get_peft_model(loaded, config).save_pretrained(folder)
    (folder / "mutant.json").write_text(json.dumps(TRAINED | {"source": source.digest if source else ""}))
    return folder


def checked_of(plan: Plan) -> Preflight:
    return open_preflight(plan, Database(plan.storage_url))


def opened(plan: Plan) -> tuple[Plan, Results]:
    stored, results = open_results(Database(plan.storage_url), plan.name)
    return stored.model_copy(update={"folder": plan.folder}), results


def traced(plan: Plan, seed: str) -> tuple[Lineage, Row]:
    stored, results = opened(plan)
    row = next(row for row in results.rows if row.seed == seed)
    return trace(checked_of(stored), results, row), row


def by_title(lineage: Lineage) -> dict[str, Node]:
    found = {node.title: node for node in lineage.nodes.values()}
    assert len(found) == len(lineage.nodes)
    return found


def test_a_plain_trial_goes_back_to_the_files_parents(bred: Bred) -> None:
    lineage, row = traced(bred.plans[0], "uniform average")
    assert not lineage.is_deep
    assert row.values is not None
    assert lineage.root.label.startswith(f"trial {row.number} of evo.e1")
    assert list(lineage.root.scores.values()) == [measured.value for measured in row.values]
    assert sorted(node.label for node in lineage.initial) == ["lang: zoo:lang", "math: adder"]
    assert {edge.share for edge in lineage.family.edges} == {0.5}
    _, results = opened(bred.plans[0])
    alone = next(row for row in results.rows if row.seed == "parent math")
    assert alone.values is not None
    assert by_title(lineage)["math"].scores[ADDITION] == alone.values[0].value


def test_bred_parents_are_named_by_trial_and_training(bred: Bred) -> None:
    lineage, row = traced(bred.plans[1], "uniform average")
    merge, mutant = f"trial {bred.winner.number} of evo.e1", f"mutant of trial {bred.winner.number} of evo.e1"
    nodes = by_title(lineage)
    assert set(nodes) == {f"trial {row.number} of evo.e2", merge, mutant, "math", "lang"}
    assert {title: node.era for title, node in nodes.items()} == {
        f"trial {row.number} of evo.e2": 2, merge: 1, mutant: 1, "math": 0, "lang": 0
    }  # fmt: skip
    assert nodes[mutant].label == f"{mutant}: DPO, 128 pairs, lr 2e-5, 42 steps"
    assert (nodes[mutant].before, nodes[mutant].scores) == ({ADDITION: 0.25}, {ADDITION: 0.5})
    assert nodes[mutant].mutation is not None
    assert nodes[mutant].mutation["reason"] == "better: it"
    root, recipe = lineage.root.digest, str(bred.winner.recipe)
    third = pytest.approx(1 / 3)
    assert {(e.child, e.parent): e.share for e in lineage.family.edges} == {
        (root, recipe): third,
        (root, bred.mutant.digest): third,
        (root, nodes["lang"].digest): third,
        (bred.mutant.digest, recipe): 1.0,
        (recipe, nodes["math"].digest): 0.5,
        (recipe, nodes["lang"].digest): 0.5,
    }
    json.dumps(lineage.data())


def test_a_hybrids_trial_goes_back_through_the_front(bred: Bred) -> None:
    lineage, _ = traced(bred.plans[2], "splice winner+lang")
    _, second = opened(bred.plans[1])
    knee = second.knee()
    winner = lineage.nodes[str(knee.recipe)]
    assert winner.label == f"trial {knee.number} of evo.e2 (knee)"
    assert (winner.era, lineage.root.era) == (2, 3)
    assert Edge(lineage.root.digest, winner.digest, 0.5) in lineage.family.edges, "two of four layers"
    assert lineage.initial
    assert {node.title for node in lineage.initial} <= {"math", "lang"}


def test_a_variant_goes_back_to_its_model_which_has_the_licence(bred: Bred, tmp_path: Path) -> None:
    (plan,) = load_plans(bred.plans[0].folder / "variants.yaml")
    lineage, row = traced(plan, "uniform average")
    nodes = {node.title: node for node in lineage.nodes.values() if node.kind != "merge"}
    model = identify("adder", plan.folder)
    (bare,) = [node for node in nodes.values() if node.digest == model.digest]
    assert set(nodes) == {f"variant more of {bare.title}", bare.title, "lang"}
    variant = nodes[f"variant more of {bare.title}"]
    assert variant.label.endswith(": DPO, 128 pairs, lr 2e-5, 42 steps")
    assert set(variant.scores) == {ADDITION, "reading_b_search.exact_match"}, "alone, as a seed"
    assert (variant.kind, variant.era) == ("mutant", 0)
    stored, results = opened(plan)
    card = export(checked_of(stored), results, row, tmp_path / "variant").parent / "README.md"
    assert f"`{bare.reference}`: licence: apache-2.0\n" in card.read_text()


def test_what_no_database_tells_of_is_named_by_its_files(bred: Bred, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipesearch.analysis.records.Mutants.among", lambda self, digests: {})
    lineage, _ = traced(bred.plans[1], "uniform average")
    mutant = lineage.nodes[bred.mutant.digest]
    assert "DPO, 128 pairs, lr 2e-5, 42 steps" in mutant.label, "from what lies beside the adapter"
    assert (mutant.before, mutant.era) == ({}, 1)
    assert mutant.scores[ADDITION] != 0.5, "its own, from where it was scored alone"
    monkeypatch.setattr("recipesearch.analysis.records.chain", lambda plan, results: [(plan, results)])
    lineage, _ = traced(bred.plans[1], "uniform average")
    merge = lineage.nodes[str(bred.winner.recipe)]
    assert merge.label == f"e1t: evo.parents/{merge.digest[:16]}.yaml"
    assert (merge.kind, merge.era) == ("merge", 0)
    assert lineage.nodes[bred.mutant.digest].title == "mutant of e1t"
    plain = [node for node in lineage.initial if node.title != "lang"]
    assert plain[0].title.endswith("/adder"), "no file here names it"


def test_a_trial_without_a_recipe_or_with_other_parents_is_refused(bred: Bred) -> None:
    stored, results = opened(bred.plans[1])
    checked, row = checked_of(stored), results.rows[0]
    with pytest.raises(StudyError, match="has no recipe yet"):
        trace(checked, results, replace(row, recipe=None))
    with pytest.raises(RefusedInput, match="was scored with other parents"):
        trace(checked, results, replace(row, recipe="0" * 64))


def test_looking_for_mutants_creates_no_table(tmp_path: Path) -> None:
    import sqlalchemy as sa

    database = Database(f"sqlite:///{tmp_path / 'other.db'}")
    assert Mutants(database).among(["0" * 64]) == {}
    assert not [name for name in sa.inspect(database.engine).get_table_names() if "recipesearch" in name]


def test_status_says_where_each_parent_comes_from(bred: Bred) -> None:
    trial = f"trial {bred.winner.number} of evo.e1"
    assert origins(*opened(bred.plans[0])) == {"math": "adder", "lang": "zoo:lang"}
    second = origins(*opened(bred.plans[1]))
    assert second == {"e1t": trial, "e1tm": f"mutant of {trial}", "lang": "zoo:lang"}
    knee = opened(bred.plans[1])[1].knee().number
    assert origins(*opened(bred.plans[2]))["winner"] == f"trial {knee} of evo.e2 (knee)"


def test_status_names_the_variants_of_a_first_population(bred: Bred) -> None:
    plan, results = opened(load_plans(bred.plans[0].folder / "variants.yaml")[0])
    assert origins(plan, results)["more"].startswith("adder+")
    mutation = MutationPlan.model_validate({"variants": {"more": {"of": "math"}}})
    varied = plan.model_copy(update={"mutation": mutation})
    assert origins(varied, results) == {"more": "variant of math", "lang": "zoo:lang"}


def test_the_card_tells_lineage_training_and_licences(bred: Bred, tmp_path: Path) -> None:
    stored, results = opened(bred.plans[1])
    row = next(row for row in results.rows if row.seed == "uniform average")
    card = (export(checked_of(stored), results, row, tmp_path / "deep").parent / "README.md").read_text()
    trial = f"trial {bred.winner.number} of evo.e1"
    tree = card[card.index("## Lineage") :].split("```")[1]
    assert tree.strip().splitlines()[0].startswith(f"trial {row.number} of evo.e2")
    assert f"33% mutant of {trial}: DPO, 128 pairs, lr 2e-5, 42 steps" in tree
    assert f"{ADDITION} 0.250 -> 0.500" in tree
    assert f"33% {trial}" in tree
    assert (
        f"- mutant of {trial}: DPO on 128 pairs (digest `cdcdcdcdcdcdcdcd`); chosen answers: reference; "
        "items of `zoo:tasks/p.yaml`; beta 0.1; learning rate 2e-05; 42 steps of 16; LoRA rank 4; seed 11; "
        f"stopped early: margin 21; {ADDITION} 0.250 -> 0.500\n" in card
    )
    licences = card[card.index("## Licences of the parents") : card.index("## Recipe")]
    assert "- math (`adder`): licence: apache-2.0\n" in licences
    assert "- lang (`zoo:lang`): licence: not stated\n" in licences
    assert f"| e1tm | mutant of {trial} |" in card


def test_the_card_of_a_plain_recipe_has_licences_alone(bred: Bred, tmp_path: Path) -> None:
    stored, results = opened(bred.plans[0])
    recipe = export(checked_of(stored), results, bred.winner, tmp_path / "plain")
    card = (recipe.parent / "README.md").read_text()
    assert "## Lineage" not in card
    assert "licence: apache-2.0" in card


def test_the_command(
    bred: Bred, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["recipesearch", "lineage", *map(str, arguments)])
        assert cli._run() == 0
        return capsys.readouterr().out

    file = bred.plans[0].folder / "evo.yaml"
    knee = opened(bred.plans[2])[1].knee().number
    assert run(file).startswith(f"trial {knee} of evo.layers (knee)\n"), "the knee of the last era begun"
    out = run(f"{file}#e2", "--trial", 3, "--html", tmp_path / "page.html")
    assert out.startswith("trial 3 of evo.e2")
    assert "Lineage of trial 3 of evo.e2" in (tmp_path / "page.html").read_text()
    data = json.loads(run(f"{file}#e1", "--trial", bred.winner.number, "--json"))
    assert (data["study"], data["trial"]) == ("evo.e1", bred.winner.number)
    assert len(data["edges"]) == 2

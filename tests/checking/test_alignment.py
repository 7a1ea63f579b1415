"""Studies over parents of different vocabularies: what is checked, said, searched, exported and proven."""

import functools
import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

from vocabularies import PLAIN, SPECIAL, respoken

from recipesearch import cli
from recipesearch.checking.estimate import estimate
from recipesearch.checking.preflight import Preflight, preflight
from recipesearch.checking.worker_order import live_donor
from recipesearch.errors import PlanError, RefusedInput
from recipesearch.exporting.export import export
from recipesearch.exporting.verify import verify
from recipesearch.merging.materialize import directories
from recipesearch.parents.headers import read_checkpoint
from recipesearch.parents.memory import need
from recipesearch.plan import Plan
from recipesearch.recipe import TokenizerFolder
from recipesearch.search import run as search
from recipesearch.workers.worker import Worker

run_here = functools.partial(search.run, open_worker=Worker)
SPACE = {"methods": ["linear", "slerp", "ties"], "layer_groups": 2, "own": ["embed", "head"]}
UNION = {"source": "union", "pad_to_multiple_of": 8, "chat_template": "chatml"}
MakePlan = Callable[..., Plan]


@pytest.fixture(scope="module")
def lang(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zoo's reader of language B, with its tokens in another order, and nine more."""
    return respoken(zoo / "lang", tmp_path_factory.mktemp("models") / "lang", PLAIN, SPECIAL)


@pytest.fixture(scope="module")
def shuffled(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the same tokens, only in another order."""
    return respoken(zoo / "lang", tmp_path_factory.mktemp("models") / "shuffled")


@pytest.fixture
def plan_of(make_plan: MakePlan) -> MakePlan:
    """A function (lang, tokenizer, **changes) -> Plan: ``math`` is the base."""

    def make(folder: Path | str, tokenizer: Any = None, **changes: Any) -> Plan:
        keys: dict[str, Any] = {
            "parents": {"lang": str(folder), "math": "zoo:math"},
            "base": "math",
            "space": {"weights": SPACE},
            "search": {"sampler": "nsga2", "population": 4, "trials": 8, "seed": 1},
            **({"tokenizer": tokenizer} if tokenizer else {}),
        }
        return make_plan(**(keys | changes))

    return make


# -- what is said and refused before a search


def test_other_shapes_are_refused_with_the_remedy(plan_of: MakePlan, lang: Path) -> None:
    with pytest.raises(RefusedInput, match=r"57 and 48 tokens: align them with tokenizer: {source: union}"):
        preflight(plan_of(lang))


def test_other_numbers_for_the_same_tokens_are_a_warning_with_the_remedy(
    plan_of: MakePlan, shuffled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        preflight(plan_of(shuffled))
        assert "'lang' and 'math' number their tokens differently" in caplog.text
        assert "tokenizer: {source: union}" in caplog.text
        caplog.clear()
        preflight(plan_of(shuffled, {"source": "base"}))
        preflight(plan_of("zoo:lang"))
    assert "tokens differently" not in caplog.text


def test_check_says_what_each_parent_has_and_lacks_and_what_it_costs(
    plan_of: MakePlan, lang: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(lang, UNION)
    told = estimate(preflight(plan), 10)
    assert told["vocabulary"] == {
        "merged": 64,
        "parents": {"math": {"tokens": 48, "lacks": 9}, "lang": {"tokens": 57, "lacks": 0}},
        "memory_bytes": 2 * 2 * 64 * 64 * 4,  # parents, tensors, rows, width, float32
        "disk_bytes": told["model_bytes"],
    }
    monkeypatch.setattr("sys.argv", ["recipesearch", "check", str(plan.folder / "study.yaml")])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert re.search(r"vocabulary: parents: math: lacks +│ 9 ", shown)


def test_memory_is_that_of_the_aligned_rows(plan_of: MakePlan, lang: Path) -> None:
    plan = plan_of(lang, UNION)
    checked = preflight(plan)
    donor = directories([live_donor(plan, checked.parents)])
    (folder,) = donor.values()
    needed = need(list(checked.parents.checkpoints.values()), plan.engine)
    assert needed.model == need([read_checkpoint(folder)], plan.engine).model
    assert needed.parents == 2 * needed.model
    assert needed.mapped == needed.parents - 2 * 2 * 64 * 64 * 4


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"parents": "subset"}, "space.weights.parents to all"),
        ({"base": "any"}, "space.weights.base to fixed"),
        ({"methods": ["linear", "passthrough"]}, "passthrough takes 1 of 2"),
        ({"methods": ["nuslerp"]}, "nuslerp would have none here"),
    ],
    ids=str,
)
def test_spaces_whose_recipes_have_other_vocabularies_are_refused(
    plan_of: MakePlan, lang: Path, weights: dict[str, Any], words: str
) -> None:
    with pytest.raises(PlanError, match=words):
        preflight(plan_of(lang, UNION, space={"weights": SPACE | weights}))


def test_pairs_of_three_parents_are_refused(plan_of: MakePlan, lang: Path) -> None:
    parents = {"lang": str(lang), "math": "zoo:math", "base": "zoo:base"}
    with pytest.raises(PlanError, match="slerp takes 2 of 3"):
        preflight(plan_of(lang, UNION, parents=parents))
    others = SPACE | {"methods": ["linear", "ties", "multislerp"]}
    assert preflight(plan_of(lang, UNION, parents=parents, space={"weights": others})).space.genes


def test_tokens_name_the_studys_parents(plan_of: MakePlan, lang: Path) -> None:
    tokens = {
        "é": {"source": "lang"},
        "new": {"source": {"kind": "model_token", "model": "lang", "token": "é"}},
    }
    checked = preflight(plan_of(lang, {"source": "base", "tokens": tokens}))
    assert checked.parents.vocabulary is not None
    assert checked.parents.vocabulary.size == 50
    with pytest.raises(PlanError, match=r"'lan' is not among the parents.*lang"):
        preflight(plan_of(lang, {"tokens": {"é": {"source": "lan"}}}))


# -- genomes


def test_every_recipe_has_every_parent_the_first_of_a_pair_is_the_base(plan_of: MakePlan, lang: Path) -> None:
    methods = SPACE | {"methods": ["linear", "slerp", "ties", "nearswap", "arcee_fusion", "karcher"]}
    checked = preflight(plan_of(lang, UNION, space={"weights": methods}))
    space, pool = checked.space, checked.pool
    for method in space.methods:
        genome = space.defaults(method)
        genome |= {gene: 0.0 for gene in genome if gene.startswith("weight.lang")}
        recipe = space.express(genome)
        assert set(recipe.parents()) == set(pool.parents.values()), method
        assert recipe.base == pool.parents["math"], method
        assert recipe.tokenizer == pool.tokenizer


# -- whole searches


def winner(checked: Preflight, results: Any, folder: Path, **keys: Any) -> Path:
    return export(checked, results, results.knee(), folder, **keys)


@pytest.mark.long
@pytest.mark.parametrize("source", ["union", "base"])
def test_a_search_its_export_and_the_proof(
    plan_of: MakePlan, lang: Path, tmp_path: Path, source: str
) -> None:
    plan = plan_of(
        lang,
        UNION | {"source": source},
        engine={"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64},
    )
    results = run_here(plan)
    assert len(results.scored) == 8
    assert not [row for row in results.rows if row.cause]
    recipe = winner(preflight(plan), results, tmp_path / "winner")
    written = yaml.safe_load(recipe.read_text())
    assert {entry["model"] for part in written["slices"] for entry in part["sources"]} == {
        str(lang),
        str(preflight(plan).pool.parents["math"].source),
    }
    assert written["tokenizer"]["source"] == (
        str(tmp_path / "winner" / "tokenizer") if source == "union" else "base"
    )
    assert written["chat_template"] == "chatml"
    proof = verify(recipe)
    assert proof.tensors == 39
    assert len(proof.scores) == 2
    assert str(recipe) in proof.command


def test_aligned_to_the_base_a_study_is_that_of_the_same_tokens(plan_of: MakePlan, lang: Path) -> None:
    """The reader with other numbers for its tokens, and more of them, merges as the one it was made of."""
    weights = {"methods": ["linear"], "layer_groups": 2, "parents": "all"}
    keys: Any = {"space": {"weights": weights}}
    one = run_here(plan_of("zoo:lang", name="one", **keys))
    other = run_here(plan_of(lang, {"source": "base"}, name="other", **keys))
    values = [[[v.value for v in row.values or ()] for row in r.rows] for r in (one, other)]
    assert values[0] == values[1]
    assert [dict(row.genome) for row in one.rows] == [dict(row.genome) for row in other.rows]


@pytest.mark.long
def test_an_interrupted_study_resumes_and_a_portable_export_holds(
    plan_of: MakePlan, lang: Path, tmp_path: Path
) -> None:
    run_here(plan_of(lang, UNION, search={"trials": 3, "seed": 1, "sampler": "random"}))
    plan = plan_of(lang, UNION, search={"trials": 4, "seed": 1, "sampler": "random"})
    results = run_here(plan)
    recipe = winner(preflight(plan), results, tmp_path / "winner", portable=True)
    assert yaml.safe_load(recipe.read_text())["tokenizer"]["source"] == "tokenizer"
    assert verify(recipe).tensors == 39


def test_the_union_is_the_same_after_the_cache_is_gone(
    plan_of: MakePlan, lang: Path, zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, found = plan_of(lang, {"source": "union"}), []
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "zoo").symlink_to(zoo.parent)
        monkeypatch.setenv("RECIPESEARCH_CACHE", str(tmp_path / place))
        found.append(preflight(plan).pool.tokenizer)
    assert found[0] is not None
    assert found[0] == found[1]
    sources = [tokenizer.source for tokenizer in found if tokenizer]
    assert all(isinstance(source, TokenizerFolder) for source in sources)
    assert len({source.path for source in sources if isinstance(source, TokenizerFolder)}) == 2


def test_auto_is_the_template_of_most_parents(plan_of: MakePlan, lang: Path, tmp_path: Path) -> None:
    config = lang / "tokenizer_config.json"
    text = config.read_text()
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    config.write_text(json.dumps(json.loads(text) | {"chat_template": template}))
    try:
        tokenizer = preflight(plan_of(lang, {"chat_template": "auto"})).pool.tokenizer
        assert tokenizer is not None
        assert tokenizer.chat_template == template
    finally:
        config.write_text(text)
    tokenizer = preflight(plan_of(lang, {"chat_template": "auto"})).pool.tokenizer
    assert tokenizer is not None
    assert tokenizer.chat_template is None
    assert replace(tokenizer, chat_template="chatml") != tokenizer


def test_a_study_is_not_resumed_with_another_vocabulary(plan_of: MakePlan, lang: Path) -> None:
    few = {"sampler": "random", "trials": 2, "seed": 1}
    run_here(plan_of(lang, UNION, search=few))
    with pytest.raises(PlanError, match=r"tokenizer\.source was \"union\", now \"base\""):
        run_here(plan_of(lang, {**UNION, "source": "base"}, search=few))

"""Parents of different vocabularies on vLLM: a whole search, its export, and the proof."""

from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

from vocabularies import PLAIN, SPECIAL, respoken

from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import live_donor
from recipesearch.engines.opening import open_engine
from recipesearch.exporting.export import export
from recipesearch.exporting.verify import verify
from recipesearch.search.run import run

pytestmark = pytest.mark.long

UNION = {"source": "union", "pad_to_multiple_of": 8, "tokens": {"new": {"source": {"kind": "zero"}}}}
ENGINE = {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64}


@pytest.fixture
def plan(zoo: Path, make_plan: Any, tmp_path: Path, environment: dict[str, str]) -> Any:
    lang = respoken(zoo / "lang", tmp_path / "lang", PLAIN, SPECIAL)
    return make_plan(
        parents={"lang": str(lang), "math": "zoo:math"},
        base="math",
        tokenizer=UNION,
        search={"sampler": "random", "trials": 4, "seed": 1},
        engine=ENGINE | {"kind": "vllm"},
    )


def test_a_search_its_export_and_the_proof(plan: Any, tmp_path: Path) -> None:
    results = run(plan)
    assert len(results.scored) == 4
    assert not [row for row in results.rows if row.cause]
    recipe = export(preflight(plan), results, results.knee(), tmp_path / "winner")
    assert yaml.safe_load(recipe.read_text())["tokenizer"]["pad_to_multiple_of"] == 8
    proof = verify(recipe)
    assert proof.tensors == 39
    assert len(proof.scores) == 2


def test_the_canary_sings_in_the_merged_vocabulary(plan: Any, ask: Any) -> None:
    """And recipes have the logits that transformers gives them, of new tokens too."""
    checked = preflight(plan)
    parents = tuple(checked.pool.parents.values())
    donor = live_donor(plan, checked.parents)
    engines = [
        open_engine(plan.engine.model_copy(update={"kind": kind}), parents, donor)
        for kind in ("vllm", "transformers")
    ]
    recipe = checked.space.express(checked.space.defaults("linear"))
    texts = [("12+34=", "46$"), ("é<|im_start|>ü", "ß"), ("@90^12=", "new")]
    answers = [[value for value, _ in ask(engine.load(recipe), "loglikelihood", texts)] for engine in engines]
    assert answers[0] == pytest.approx(answers[1], abs=1e-4)
    assert engines[0].self_test() < 1e-4  # type: ignore[attr-defined]
    for engine in engines:
        engine.close()

"""Paths of different depth in one live vLLM engine: filled up with identities, they answer as they are."""

from pathlib import Path

import pytest

from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import live_donor
from recipesearch.engines.opening import open_engine
from recipesearch.errors import RefusedInput, TrialFailed
from recipesearch.merging.layered import require_movable
from recipesearch.parents.headers import read_checkpoint
from recipesearch.recipe import Recipe, Slice, Source
from recipesearch.search.run import run

pytestmark = pytest.mark.long

DEPTH = 8
LAYERS = {"layers": {"encoding": "slices", "slices": 2, "depth": [2, DEPTH], "scale": [0.6, 1.4]}}
ENGINE = {"kind": "vllm", "dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64}


@pytest.fixture(scope="module")
def paths(family):
    """One path of each depth from 2 to 8, through two parents, with the head of the first."""
    _, math, lang = family
    found = []
    for depth in range(2, DEPTH + 1):
        lower = depth // 2
        pieces = [(math, 0, lower), (lang, 4 - (depth - lower), 4), (math, 0, 0)]
        slices = tuple(Slice((Source(parent, (start, stop)),)) for parent, start, stop in pieces)
        found.append(Recipe("passthrough", slices, math, dtype="float32"))
    return found


def test_paths_of_depth_2_to_8_answer_as_in_transformers(make_plan, paths, answers, furthest, environment):
    plan = make_plan(space=LAYERS, engine=ENGINE)
    checked = preflight(plan)
    parents = tuple(checked.pool.parents.values())
    donor = live_donor(plan, checked.parents)
    engine = open_engine(plan.engine, parents, donor)
    reference = open_engine(plan.engine.model_copy(update={"kind": "transformers"}), parents, parents[0])
    first = answers(engine.load(paths[0]))
    for recipe in (*reversed(paths), paths[0]):
        ours, theirs = answers(engine.load(recipe)), answers(reference.load(recipe))
        assert furthest(ours, theirs) < 1e-4
        assert ours.texts == theirs.texts
    assert ours == first, "A, all others, A: the same answers"
    assert engine.self_test() < 1e-4
    too_deep = Recipe("passthrough", paths[-1].slices * 2, parents[0], dtype="float32")
    with pytest.raises(RefusedInput, match="has 8 layers, too few for the recipe's 16"):
        engine.load(too_deep)


def test_a_layer_study_runs_and_every_candidate_is_scored(make_plan, environment):
    results = run(
        make_plan(space=LAYERS, engine=ENGINE, search={"sampler": "random", "trials": 8, "seed": 1})
    )
    assert len(results.scored) == 8
    assert not [row.cause for row in results.rows if row.cause]


def test_layers_of_other_kinds_than_the_live_models_are_refused(random_model, open_vllm):
    gemma = random_model("Gemma2", 0, True)
    stated = read_checkpoint(Path(gemma.source)).config
    published = {key: value for key, value in stated.items() if key != "layer_types"}
    for config in (stated, published):  # what is on the hub leaves the list out
        with pytest.raises(RefusedInput, match="layers are of several kinds"):
            require_movable({"gemma": config}, in_place=True)
        require_movable({"gemma": config}, in_place=False)
    engine = open_vllm([gemma])
    swapped = tuple(Slice((Source(gemma, (layer, layer + 1)),)) for layer in (1, 0))
    with pytest.raises(TrialFailed, match="another kind of attention"):
        engine.load(Recipe("passthrough", swapped, gemma, dtype="float32"))

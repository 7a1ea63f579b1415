"""The vLLM engine against transformers: every family of models, and the zoo's own tasks, recipe by recipe."""

from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from recipesearch.scoring.scorer import Scorer  # noqa: E402
from recipesearch.scoring.tasks import load_tasks  # noqa: E402

pytestmark = pytest.mark.long

TOLERANCE = 1e-3  # of a log-likelihood; the measured differences are below 5e-5
AGREEMENT = 0.995  # of all items
FAMILIES = [
    *((name, tied) for name in ("Llama", "Qwen2", "Qwen3", "Mistral") for tied in (False, True)),
    *((name, True) for name in ("Gemma", "Gemma2")),  # always; vLLM's have no head of their own
    ("Phi3", False),  # mergekit knows no tied one; fused in its checkpoint too
]
CHOICES = {
    "task": "reading_b_choices",
    "output_type": "multiple_choice",
    "doc_to_choice": "{% set near = {'A': 'B'} %}{{[answer, answer[0] + near.get(answer[1], 'A') + '$', "
    "near.get(answer[0], 'A') + answer[1] + '$', 'J']}}",
    "doc_to_target": 0,
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}


@pytest.mark.parametrize(("name", "tied"), FAMILIES, ids=lambda value: str(value))
def test_every_family_answers_as_in_transformers_after_every_swap(
    name, tied, random_model, open_vllm, open_transformers, average, task_vectors, answers, furthest
):
    """Fused and tied weights are where a reload goes wrong in silence; each family has its own."""
    parents = [random_model(name, seed, tied) for seed in range(2)]
    engine, reference = open_vllm(parents), open_transformers(parents)
    said = {}
    for recipe in (average(parents), task_vectors(parents, "ties"), task_vectors(parents, "task_arithmetic")):
        found = said[recipe] = answers(engine.load(recipe))
        expected = answers(reference.load(recipe))
        error = furthest(found, expected)
        print(f"{name} tied={tied} {recipe.method}: {error:.1e}")
        assert error < TOLERANCE
        assert [greedy for _, greedy in found.likelihoods] == [greedy for _, greedy in expected.likelihoods]
        assert found.texts == expected.texts
    first, *others = said
    assert answers(engine.load(first)) == said[first]
    assert all(furthest(said[first], said[other]) > 1 for other in others)


@pytest.fixture(scope="module")
def tasks(zoo, tmp_path_factory):
    """All of the zoo's search tasks, and one of them as multiple choice."""
    files = [str(zoo / "tasks" / f"{name}_search.yaml") for name in ("addition_a", "addition_b", "reading_b")]
    settings = yaml.safe_load(Path(files[-1]).read_text())
    for key in ("doc_to_target", "generation_kwargs"):
        del settings[key]
    choices = tmp_path_factory.mktemp("choices") / "choices.yaml"
    choices.write_text(yaml.safe_dump(settings | CHOICES))
    return load_tasks([*files, str(choices)])


@pytest.mark.parametrize("place", range(3))
def test_the_zoos_tasks_are_scored_item_by_item_as_in_transformers(
    place, family, tasks, zoo_engine, zoo_reference, average, task_vectors
):
    recipe = (
        average(family, (0, 1, 1)),
        task_vectors(family, "ties"),
        task_vectors(family, "dare_ties", 0.5),
    )[place]
    found, expected = (
        Scorer(tasks, engine.lm).score(engine.load(recipe)) for engine in (zoo_engine, zoo_reference)
    )
    for loaded, mine, theirs in zip(tasks, found, expected, strict=True):
        assert mine.items.keys() == theirs.items.keys()
        assert len(mine.items) == 300
        same = [mine.items[key] == theirs.items[key] for key in mine.items]
        values = {name: measured.value for name, measured in mine.metrics.items()}
        print(f"{recipe.method} {loaded.task.task_name}: {sum(same)} of {len(same)} agree, {values}")
        assert sum(same) >= AGREEMENT * len(same)


@pytest.fixture(scope="module")
def zoo_engine(open_vllm, family):
    return open_vllm(family)


@pytest.fixture(scope="module")
def zoo_reference(open_transformers, family):
    return open_transformers(family)

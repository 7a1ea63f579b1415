"""A recipe's family: shares that are known, and each model visited once."""

import json
import time
from pathlib import Path

import pytest

from recipesearch.analysis.family import Edge, walk
from recipesearch.recipe import Parent, Recipe, Slice, Source, Tokenizer, freeze

MATH, LANG, BASE = (Parent(name, f"/models/{name}") for name in ("math", "lang", "base"))


def merge(weights: dict[Parent, float], method: str = "linear", base: Parent | None = None, **keys) -> Recipe:
    sources = (Source(parent, None, freeze({"weight": weight})) for parent, weight in weights.items())
    return Recipe(method, (Slice(tuple(sources)),), base, **keys)


def as_parent(recipe: Recipe, adapter: str | None = None) -> Parent:
    return Parent(f"{recipe.digest}+{adapter}" if adapter else recipe.digest, recipe, adapter=adapter)


def test_edges_have_the_parents_shares() -> None:
    inner = merge({MATH: 3.0, LANG: 1.0})
    mutant = as_parent(inner, "/adapter")
    outer = merge({mutant: 0.5, LANG: 0.5})
    family = walk(outer)
    assert family.root == outer.digest
    assert set(family.models) == {outer.digest, mutant.digest, inner.digest, "math", "lang"}
    assert set(family.edges) == {
        Edge(outer.digest, mutant.digest, 0.5),
        Edge(outer.digest, "lang", 0.5),
        Edge(mutant.digest, inner.digest, 1.0),
        Edge(inner.digest, "math", 0.75),
        Edge(inner.digest, "lang", 0.25),
    }
    assert [edge.parent for edge in family.made_of(inner.digest)] == ["math", "lang"], "by falling share"
    assert family.made_of("math") == ()
    place = family.oldest_first.index
    assert all(place(edge.parent) < place(edge.child) for edge in family.edges)


def test_a_parent_of_no_weight_is_left_out_unless_it_is_the_base_or_gives_tokens() -> None:
    weights = {MATH: 1.0, LANG: 0.0}
    assert [edge.parent for edge in walk(merge(weights)).edges] == ["math"]
    assert [edge.parent for edge in walk(merge(weights, base=LANG)).edges] == ["math", "lang"]
    assert len(walk(merge(weights, tokenizer=Tokenizer("union"))).edges) == 2
    vectors = walk(merge({MATH: 1.0, LANG: 1.0}, "task_arithmetic", BASE))
    assert vectors.made_of(vectors.root)[-1] == Edge(vectors.root, "base", 0.0)


def test_a_variant_of_a_plain_model_is_made_of_it_and_an_adapter_from_anywhere_is_as_it_stands(
    tmp_path: Path,
) -> None:
    variant = Parent("variant", "/models/math", adapter=str(tmp_path))
    assert walk(merge({variant: 1.0})).made_of("variant") == ()
    told = {"source": "math", "settings": {}, "pairs": 2, "pairs_digest": "00", "seed": 1}
    (tmp_path / "mutant.json").write_text(json.dumps(told))
    family = walk(merge({variant: 0.5, MATH: 0.5}))
    assert family.made_of("variant") == (Edge("variant", "math", 1.0),)
    assert family.models["math"].adapter is None
    (tmp_path / "mutant.json").write_text("[]")
    assert walk(merge({variant: 1.0})).made_of("variant") == ()


def generations(count: int, mutate: bool) -> Recipe:
    """A recipe after so many generations of two merges, each of both before."""
    one, other = MATH, LANG
    for generation in range(count):
        adapter = f"/adapter{generation}" if mutate else None
        merges = merge({one: 1.0, other: 2.0}), merge({one: 2.0, other: 1.0})
        one, other = as_parent(merges[0], adapter), as_parent(merges[1])
    return merge({one: 1.0, other: 1.0})


@pytest.mark.parametrize("mutate", [False, True])
def test_thirty_generations_are_walked_at_once(mutate: bool) -> None:
    """As a tree they would be a thousand million models; a few first, which a walk of the tree survives."""
    for count in (6, 30):
        recipe = generations(count, mutate)
        start = time.perf_counter()
        family = walk(recipe)
        order = family.oldest_first
        assert time.perf_counter() - start < 0.5
        assert len(family.models) == len(order) == 1 + 2 * count + count * mutate + 2
        assert len(family.edges) == 2 + 4 * count + count * mutate

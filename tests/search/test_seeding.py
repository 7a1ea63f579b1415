"""What an era's search begins with."""

from pathlib import Path
from random import Random

import pytest

from recipesearch.plan import WeightsPlan
from recipesearch.recipe import Parent
from recipesearch.search.seeding import averages, immigrants, inherited
from recipesearch.space.places import Parts
from recipesearch.space.pool import Pool
from recipesearch.space.weights import WeightSpace
from recipesearch.study.results import Row


def space_of(*names: str, methods: tuple[str, ...] = ("linear",), **keys: object) -> WeightSpace:
    parents = {name: Parent(f"digest of {name}", str(Path("/models") / name)) for name in names}
    pool = Pool(parents, None, dict.fromkeys(names, 4), Parts((), (), ()), "float32", 0)
    return WeightSpace(WeightsPlan(methods=methods, layer_groups=2, **keys), pool)  # type: ignore[arg-type]


def row(space: WeightSpace, number: int = 7, **weights: float) -> Row:
    genome = dict.fromkeys(space.genes, 0.0) | space.defaults("linear")
    genome |= {
        gene: weights.get(gene.split(".")[1], 0.0) for gene in space.genes if gene.startswith("weight")
    }
    recipe = space.express(genome).digest
    return Row(number, "complete", recipe, None, None, genome, None, None, None)


def test_what_the_new_space_can_say_is_inherited_as_the_same_recipe() -> None:
    before, now = space_of("a", "b", "c"), space_of("a", "b", "d")
    ((label, genome),) = inherited([row(before, a=0.4, b=0.6)], "evo.e1", now)
    assert label == "trial 7 of evo.e1"
    assert now.express(genome).digest == row(before, a=0.4, b=0.6).recipe


def test_what_needs_a_parent_that_is_gone_is_not() -> None:
    before, now = space_of("a", "b", "c"), space_of("a", "b", "d")
    assert inherited([row(before, a=0.4, c=0.6)], "evo.e1", now) == []


def test_nor_what_would_have_another_config_and_tokenizer() -> None:
    """Without a base the first parent gives them."""
    before, now = space_of("a", "b", "c"), space_of("b", "c", "d")
    assert inherited([row(before, b=0.4, c=0.6)], "evo.e1", now) == []


def test_mates_are_averaged() -> None:
    space = space_of("a", "b", "c")
    ((label, genome),) = averages([("a", "c")], space)
    assert label == "mates a+c"
    assert {parent.digest for parent in space.express(genome).parents()} == {"digest of a", "digest of c"}
    assert averages([("a", "c")], space_of("a", "b", "c", methods=("slerp",))) == []


@pytest.mark.parametrize("methods", [("linear",), ("linear", "slerp")])
def test_immigrants_are_complete_genomes_and_follow_from_their_seed(methods: tuple[str, ...]) -> None:
    space = space_of("a", "b", "c", methods=methods)
    found = immigrants(3, space, Random("1/e2"))
    assert [label for label, _ in found] == ["immigrant 0", "immigrant 1", "immigrant 2"]
    assert len({space.express(genome).digest for _, genome in found}) == 3
    assert found == immigrants(3, space, Random("1/e2"))
    assert found != immigrants(3, space, Random("1/e3"))

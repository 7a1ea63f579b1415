"""Projection: recipes of other spaces over the same parents have the coordinates that are nearest to them."""

import random

import numpy as np
import pytest
from example_spaces import draw, space_of

from recipesearch.recipe import Parent, Recipe, Slice, Source, freeze
from recipesearch.space.coordinates import Coordinates, CoordinateSystem
from recipesearch.space.projection import Projection
from recipesearch.space.weights import WeightSpace

GROUPED = {"methods": ("linear", "slerp", "task_arithmetic", "ties"), "layer_groups": 2}
LAYERS = 4


def projected(recipe: Recipe, space: WeightSpace) -> Coordinates:
    point = Projection(CoordinateSystem(space)).of(recipe)
    assert point is not None
    return point


def linear(space: WeightSpace, weights: dict[str, list[float]]) -> Recipe:
    """A linear merge with one weight for each place of a parent."""
    genome = space.defaults("linear")
    for name, values in weights.items():
        genome |= {f"weight.{name}.{place}": w for place, w in zip(space.places.names, values, strict=True)}
    return space.express(genome)


def any_recipe(space: WeightSpace, seed: int) -> Recipe:
    return space.express(draw(space, random.Random(seed)))


# -- places of other spaces


def test_a_place_has_the_mean_of_the_smaller_places_inside() -> None:
    fine = space_of({"methods": ("linear",), "layer_groups": 4})
    recipe = linear(
        fine, {"base": [1.0, 0.5, 0.0, 0.2], "math": [0.0, 0.5, 1.0, 0.0], "lang": [0.0, 0.0, 0.0, 0.8]}
    )
    inner = {
        "methods": ("linear",),
        "layer_groups": 2,
        "own": ("embed", "head"),
    }  # groups of inner tensors only
    point = projected(recipe, space_of(inner))
    np.testing.assert_allclose(point.shares[1:3], [[0.75, 0.25, 0.0], [0.1, 0.5, 0.4]], atol=1e-9)
    np.testing.assert_allclose(point.shares[0], [1.0, 0.0, 0.0]), "embeddings are part of the first group"
    np.testing.assert_allclose(point.shares[3], [0.2, 0.0, 0.8]), "the head is part of the last group"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "fine",
    [
        {"layer_groups": 4},
        {"layer_groups": 4, "own": ("embed", "head")},
        {"layer_groups": 4, "own": ("norm",)},
        {"layer_groups": 2, "filters": ("self_attn", "mlp")},
        {"layer_groups": 4, "filters": ("mlp",), "own": ("embed", "head", "norm")},
    ],
    ids=str,
)
def test_larger_places_are_met_exactly_by_smaller_ones_inside(fine: dict[str, object], seed: int) -> None:
    """What two groups can say, four groups and filters say too: the point is the same."""
    whole = space_of({"methods": ("linear",), "layer_groups": 1})
    recipe = any_recipe(whole, seed)
    (row,) = projected(recipe, whole).shares
    shares = projected(recipe, space_of({"methods": ("linear",), **fine})).shares
    np.testing.assert_allclose(shares, np.tile(row, (len(shares), 1)), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("layers", [4, 24])
def test_nested_groups_repeat_the_larger_groups_shares(seed: int, layers: int) -> None:
    coarse = space_of({"methods": ("task_arithmetic",), "layer_groups": 2}, layers=layers)
    fine = space_of({"methods": ("task_arithmetic",), "layer_groups": 4}, layers=layers)
    recipe = any_recipe(coarse, seed)
    shares = projected(recipe, coarse).shares
    np.testing.assert_allclose(projected(recipe, fine).shares, shares[[0, 0, 1, 1]], atol=1e-9)


def test_there_and_back_over_nested_places_is_the_same() -> None:
    coarse, fine = (space_of({"methods": ("linear",), "layer_groups": count}) for count in (2, 4))
    recipe = any_recipe(coarse, 3)
    inner = CoordinateSystem(fine)
    again = fine.express(inner.genome(inner.canonical(projected(recipe, fine))))
    np.testing.assert_allclose(projected(again, coarse).shares, projected(recipe, coarse).shares, atol=2e-3)


def test_filters_are_averaged_over_the_tensors_of_a_place() -> None:
    filtered = space_of({"methods": ("linear",), "layer_groups": 1, "filters": ("self_attn", "mlp")})
    # Attention from base, feed-forward from math, the rest from lang.
    recipe = linear(filtered, {"base": [1.0, 0.0, 0.0], "math": [0.0, 1.0, 0.0], "lang": [0.0, 0.0, 1.0]})
    own = space_of({"methods": ("linear",), "layer_groups": 1, "own": ("embed", "head")})
    embed, inner, head = projected(recipe, own).shares
    assert embed.tolist() == [0.0, 0.0, 1.0]
    assert head.tolist() == [0.0, 0.0, 1.0]
    assert inner == pytest.approx([0.25, 0.25, 0.5]), "of four tensors of a layer, two are norms"
    (whole,) = projected(recipe, space_of({"methods": ("linear",), "layer_groups": 1})).shares
    assert whole == pytest.approx([4 / 19, 4 / 19, 11 / 19]), "4 layers of 4 tensors, and 3 outside"


def test_a_gradient_is_read_at_each_layer() -> None:
    gradient = space_of({"methods": ("linear",), "gradient": 2})
    recipe = linear(gradient, {"base": [1.0, 0.0], "math": [0.0, 1.0], "lang": [0.0, 0.0]})
    layers = space_of({"methods": ("linear",), "layer_groups": LAYERS, "own": ("embed", "head")})
    shares = projected(recipe, layers).shares
    wanted = [
        [1.0, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [2 / 3, 1 / 3, 0.0],
        [1 / 3, 2 / 3, 0.0],
        [0, 1, 0],
        [0, 1, 0],
    ]
    np.testing.assert_allclose(shares, wanted, atol=1e-9)


def test_groups_are_read_at_a_gradients_points() -> None:
    layers = space_of({"methods": ("linear",), "layer_groups": 2})
    recipe = linear(layers, {"base": [1.0, 0.0], "math": [0.0, 1.0], "lang": [0.0, 0.0]})
    shares = projected(recipe, space_of({"methods": ("linear",), "gradient": 2})).shares
    np.testing.assert_allclose(shares, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], atol=1e-9)


# -- other methods


@pytest.mark.parametrize("seed", range(10))
def test_a_method_that_the_space_lacks_keeps_its_kind_and_its_shares(seed: int) -> None:
    """The point teaches a model about the parents, though no genome of the space expresses its method."""
    other = space_of({"methods": ("dare_ties",), "layer_groups": 2})
    recipe = any_recipe(other, seed)
    mine, own = projected(recipe, space_of(GROUPED)), projected(recipe, other)
    assert mine.kind == own.kind == ("dare_ties", "base")
    np.testing.assert_allclose(mine.shares, own.shares, atol=1e-9)


def test_extras_of_another_space_are_positions_in_this_spaces_range() -> None:
    recipe = space_of({"methods": ("ties",), "density": 0.55, "lambda": 1.25}).express(
        space_of({"methods": ("ties",), "density": 0.55, "lambda": 1.25}).defaults("ties")
    )
    space = space_of({"methods": ("ties",)})
    assert CoordinateSystem(space).extras == ("density.math", "density.lang")
    assert projected(recipe, space).extras == pytest.approx([0.5, 0.5])
    narrow = space_of({"methods": ("ties",), "density": (0.6, 0.8)})
    assert projected(recipe, narrow).extras.tolist() == [0.0, 0.0], "below the range: its lower end"


def test_task_vectors_leave_their_base_the_rest() -> None:
    space = space_of({"methods": ("task_arithmetic",), "layer_groups": 1})
    genome = {"weight.math.g0": 0.6, "weight.lang.g0": 0.9}
    assert projected(space.express(genome), space).shares == pytest.approx(np.array([[-0.5, 0.6, 0.9]]))


def test_one_merge_of_several_methods_is_one_point() -> None:
    """A quarter of lang and the rest of math, as weights, as a path and as task vectors."""
    space = space_of({"methods": ("linear", "slerp", "nuslerp", "task_arithmetic"), "layer_groups": 1})
    weights = {"weight.base.g0": 0.0, "weight.math.g0": 0.75, "weight.lang.g0": 0.25}
    for method in space.methods:
        recipe = space.express(space.defaults(method) | weights | {"t.g0": 0.25, "pair": "math+lang"})
        assert projected(recipe, space).shares == pytest.approx(np.array([[0.0, 0.75, 0.25]])), method


# -- recipes as files may have them


def parents() -> dict[str, Parent]:
    return dict(space_of(GROUPED).pool.parents)


def whole(parameters: dict[str, object], **own: dict[str, object]) -> Recipe:
    """A linear merge of all parents without slices' layers, with shared parameters and parents' own."""
    sources = tuple(Source(parent, None, freeze(own.get(name))) for name, parent in parents().items())
    return Recipe("linear", (Slice(sources),), parents()["base"], freeze(parameters), dtype="float32")


def test_a_parents_own_parameter_goes_before_the_recipes() -> None:
    recipe = whole({"weight": 1.0}, math={"weight": 2.0})
    assert projected(recipe, space_of(GROUPED)).shares == pytest.approx(np.array([[0.25, 0.5, 0.25]] * 2))


def test_a_weight_that_is_not_stated_is_one() -> None:
    recipe = whole({}, math={"weight": 2.0})
    assert projected(recipe, space_of(GROUPED)).shares == pytest.approx(np.array([[0.25, 0.5, 0.25]] * 2))


def test_the_first_filter_that_matches_applies() -> None:
    conditions = [{"filter": "self_attn", "value": 0.0}, {"filter": "attn", "value": 9.0}, {"value": 1.0}]
    recipe = whole({"weight": 1.0}, math={"weight": conditions})
    space = space_of({"methods": ("linear",), "layer_groups": 1, "filters": ("self_attn",)})
    attention, rest = projected(recipe, space).shares
    assert attention == pytest.approx([0.5, 0.0, 0.5])
    assert rest == pytest.approx([1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    "own", [[{"filter": "self_attn", "value": 4.0}], []], ids=["filters", "empty gradient"]
)
def test_where_a_setting_has_no_value_the_next_one_applies(own: list[object]) -> None:
    """As in mergekit: a parent's own setting, then the slice's, then the recipe's, then the default."""
    space = space_of({"methods": ("linear",), "layer_groups": 1, "filters": ("self_attn",)})
    for shared, share in (({"weight": 2.0}, 1 / 3), ({}, 1 / 3)):
        attention, rest = projected(whole(shared, math={"weight": own}), space).shares
        assert rest == pytest.approx([share] * 3)
        assert attention[1] == pytest.approx(4 / (4 + 2 * shared.get("weight", 1.0)) if own else 1 / 3)


def test_a_gradients_first_value_applies_outside_the_layers() -> None:
    """mergekit gives embeddings and head the position 0."""
    space = space_of({"methods": ("linear",), "layer_groups": 1, "own": ("embed", "head")})
    embed, inner, head = projected(whole({"weight": 1.0}, math={"weight": [0.0, 4.0]}), space).shares
    assert embed.tolist() == head.tolist() == [0.5, 0.0, 0.5]
    assert inner[1] > 0.3


# -- recipes without coordinates


def test_recipes_over_other_parents_have_no_coordinates() -> None:
    stranger = space_of(GROUPED, names=("base", "math", "chem"))
    projection = Projection(CoordinateSystem(space_of(GROUPED)))
    assert projection.of(any_recipe(stranger, 1)) is None


def test_recipes_over_some_of_the_parents_have_coordinates() -> None:
    fewer = space_of({"methods": ("linear",)}, base=None, names=("math", "lang"))
    recipe = linear(fewer, {"math": [0.5], "lang": [1.5]})
    assert projected(recipe, space_of(GROUPED)).shares == pytest.approx(np.array([[0.0, 0.25, 0.75]] * 2))


def test_equal_parents_at_another_path_are_the_same_parents() -> None:
    moved = {name: Parent(parent.digest, f"/moved/{name}") for name, parent in parents().items()}
    recipe = any_recipe(space_of(GROUPED, parents=moved), 1)
    assert Projection(CoordinateSystem(space_of(GROUPED))).of(recipe) is not None


def path(*ranges: tuple[str, int, int]) -> Recipe:
    slices = tuple(Slice((Source(parents()[name], (start, stop)),)) for name, start, stop in ranges)
    return Recipe("passthrough", slices, parents()["base"], dtype="float32")


def test_a_path_that_moves_no_layer_has_coordinates() -> None:
    recipe = path(("math", 0, 1), ("lang", 1, 4))
    layers = space_of({"methods": ("linear",), "layer_groups": LAYERS})
    shares = projected(recipe, layers).shares
    np.testing.assert_allclose(shares, [[0.0, 1.0, 0.0], *[[0.0, 0.0, 1.0]] * 3], atol=1e-9)


@pytest.mark.parametrize(
    "ranges",
    [
        [("math", 0, 2), ("lang", 1, 4)],  # repeated
        [("math", 0, 2), ("lang", 3, 4)],  # left out
        [("math", 0, 3)],  # ends early
        [("math", 1, 4)],  # starts late
        [("math", 2, 4), ("lang", 0, 2)],  # in another order
        [("math", 0, 4), ("lang", 0, 4)],  # twice
    ],
    ids=str,
)
def test_a_path_that_moves_layers_has_no_coordinates(ranges: list[tuple[str, int, int]]) -> None:
    assert Projection(CoordinateSystem(space_of(GROUPED))).of(path(*ranges)) is None


def test_sources_of_different_layers_in_one_slice_have_no_coordinates() -> None:
    math, lang = parents()["math"], parents()["lang"]
    part = Slice((Source(math, (0, 4)), Source(lang, (1, 5))))
    recipe = Recipe("linear", (part,), parents()["base"], freeze({"weight": 1.0}), dtype="float32")
    assert Projection(CoordinateSystem(space_of(GROUPED))).of(recipe) is None

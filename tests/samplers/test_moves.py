"""Moves: every candidate is a point that some genome expresses, and the generator alone decides which."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from example_spaces import CASES, draw, space_of

from recipesearch.samplers.moves import Moves, features
from recipesearch.space.coordinates import IDLE, Coordinates, CoordinateSystem
from recipesearch.space.projection import Projection
from recipesearch.space.weights import WeightSpace

COUNT = 40  # of each move


@pytest.fixture(params=CASES, ids=lambda case: case[0])
def space(request: pytest.FixtureRequest) -> WeightSpace:
    return space_of(*request.param[1:])


def scored(space: WeightSpace, seed: int = 1) -> list[Coordinates]:
    """Points of a few genomes, as a study has them."""
    projection, rng = Projection(CoordinateSystem(space)), random.Random(seed)
    points = [projection.of(space.express(draw(space, rng))) for _ in range(6)]
    return [point for point in points if point is not None]


def candidates(space: WeightSpace, seed: int = 0) -> Iterator[Coordinates]:
    """Points of every move; the kinds follow each other where a move is given one."""
    system = CoordinateSystem(space)
    moves, good = Moves(system, np.random.default_rng(seed)), scored(space)
    for number in range(COUNT):
        kind = system.kinds[number % len(system.kinds)]
        yield moves.corner(kind)
        yield moves.anywhere(kind)
        yield moves.near(good)
        yield moves.near(good, kind)


def test_every_move_is_canonical(space: WeightSpace) -> None:
    """Canonical points are their own nearest points, to the four decimals of a genome."""
    system = CoordinateSystem(space)
    for point in candidates(space):
        again = system.canonical(point)
        # Ratios of weights up to 0.0003 have no equal among other weights of four decimals.
        if space.range("weight" if "weight" in space._parameters else "t")[1] > 0.001:
            np.testing.assert_allclose(again.shares, point.shares, atol=2e-3)
            np.testing.assert_allclose(again.extras, point.extras, atol=2e-3)
        assert np.isfinite(point.shares).all()
        assert ((point.extras >= 0) & (point.extras <= 1)).all()


def test_every_move_is_expressed_by_a_genome_of_the_space(space: WeightSpace) -> None:
    system = CoordinateSystem(space)
    for point in candidates(space):
        genome = system.genome(point)
        assert set(genome) == set(space.genes)
        for name, gene in space.genes.items():
            assert gene._contains(gene.to_internal_repr(genome[name])), name
        assert space.express(genome).method == point.method


def test_every_move_is_of_a_legal_kind_and_of_the_kind_that_is_asked_for(space: WeightSpace) -> None:
    system = CoordinateSystem(space)
    moves, good = Moves(system, np.random.default_rng(3)), scored(space)
    for kind in system.kinds:
        found = [moves.corner(kind), moves.anywhere(kind), moves.near(good, kind)]
        assert {point.kind for point in found} == {kind}
    free = [moves.near(good) for _ in range(60)]
    assert {point.kind for point in free} <= set(system.kinds)
    own = {point.kind for point in good}
    assert sum(point.kind in own for point in free) > 40, "most steps keep the kind"


def test_the_same_generator_gives_the_same_points(space: WeightSpace) -> None:
    one, two, other = (list(candidates(space, seed)) for seed in (4, 4, 5))
    for a, b in zip(one, two, strict=True):
        assert a.kind == b.kind
        assert a.shares.tolist() == b.shares.tolist()
        assert a.extras.tolist() == b.extras.tolist()
    assert any(a.shares.tolist() != b.shares.tolist() for a, b in zip(one, other, strict=True))


def space_with(**changes: object) -> WeightSpace:
    return space_of({"methods": ("linear", "task_arithmetic"), "layer_groups": 3, **changes})


def test_a_corner_takes_each_place_from_one_parent() -> None:
    system = CoordinateSystem(space_with())
    moves = Moves(system, np.random.default_rng(0))
    for number in range(30):
        shares = moves.corner(system.kinds[number % 2]).shares
        assert sorted(set(shares.ravel().round(4))) == [0.0, 1.0]
        np.testing.assert_allclose(shares.sum(axis=1), 1.0)


def test_a_step_is_mostly_short_and_sometimes_long() -> None:
    system = CoordinateSystem(space_with())
    moves = Moves(system, np.random.default_rng(1))
    start = moves.anywhere(("task_arithmetic", "base"))
    steps = [np.abs(moves.near([start], start.kind).shares - start.shares).max() for _ in range(300)]
    assert np.median(steps) < 0.3
    assert max(steps) > 0.5


def test_steps_change_the_kind_now_and_then() -> None:
    system = CoordinateSystem(space_with())
    moves = Moves(system, np.random.default_rng(2))
    start = moves.corner(("linear", None))
    changed = sum(moves.near([start]).kind != start.kind for _ in range(1000))
    assert 20 < changed < 100, "half of a tenth"


def test_a_step_to_another_kind_takes_idle_extras_from_the_other_point() -> None:
    """The density of a point that has none would start from the middle of the range again and again."""
    system = CoordinateSystem(space_with(methods=("linear", "ties"), layer_groups=1))
    moves = Moves(system, np.random.default_rng(3))
    ties = ("ties", "base")
    plain = system.canonical(Coordinates("linear", None, np.full((1, 3), 1 / 3), np.full(2, IDLE)))
    dense = system.canonical(Coordinates(*ties, np.full((1, 3), 1 / 3), np.full(2, 0.9)))
    found = [moves.near([plain, dense], ties).extras for _ in range(200)]
    assert np.mean([(extras > 0.7).any() for extras in found]) > 0.6


def test_features_leave_out_the_donor_if_its_share_follows_from_the_others() -> None:
    averaged = CoordinateSystem(space_with())
    assert averaged.affine
    points = [Moves(averaged, np.random.default_rng(4)).anywhere(("linear", None)) for _ in range(5)]
    rows = features(averaged, points)
    assert rows.shape == (5, 3 * 2 + len(averaged.extras))
    assert rows[0][:2].tolist() == points[0].shares[0, 1:].tolist()
    free = CoordinateSystem(space_with(normalize=False))
    assert not free.affine
    points = [Moves(free, np.random.default_rng(4)).anywhere(("linear", None)) for _ in range(5)]
    assert features(free, points).shape == (5, 3 * 3 + len(free.extras))


def test_shares_sum_to_one_wherever_they_are_said_to(space: WeightSpace) -> None:
    system = CoordinateSystem(space)
    sums = np.array([point.shares.sum(axis=1) for point in candidates(space)])
    assert np.allclose(sums, 1.0) or not system.affine


def test_the_donor_takes_the_rest_of_a_place() -> None:
    system = CoordinateSystem(space_with())
    shares = np.random.default_rng(5).uniform(size=(3, 3))
    found = Moves(system, np.random.default_rng(5))._affine(shares)
    assert found.sum(axis=1) == pytest.approx(np.ones(3))
    assert found[:, 1:].tolist() == shares[:, 1:].tolist()

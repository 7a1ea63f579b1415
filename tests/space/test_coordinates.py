"""Merge coordinates: the same point for every genome of one merge, and a genome for every point."""

import random
from dataclasses import replace

import numpy as np
import pytest
from example_spaces import CASES, draw, space_of

from recipesearch.space.coordinates import CoordinateSystem
from recipesearch.space.projection import Projection

# Ratios of weights up to 0.0003 have no equal among other weights of four decimals.
EXACT = [case for case in CASES if not case[0].startswith("tiny")]


@pytest.fixture(params=EXACT, ids=lambda case: case[0])
def space(request):
    return space_of(*request.param[1:])


def same(one, other, tolerance=2e-3):
    assert one.kind == other.kind
    np.testing.assert_allclose(one.shares, other.shares, atol=tolerance)
    np.testing.assert_allclose(one.extras, other.extras, atol=tolerance)


def test_the_genome_of_a_points_coordinates_expresses_the_same_point(space):
    """Coordinates of a genome that was expressed from coordinates agree."""
    system, rng = CoordinateSystem(space), random.Random(5)
    projection = Projection(system)
    for _ in range(200):
        point = projection.of(space.express(draw(space, rng)))
        again = projection.of(space.express(system.genome(point)))
        same(again, point)


def test_coordinates_of_a_genome_are_canonical(space):
    """No point that a genome expresses is moved."""
    system, rng = CoordinateSystem(space), random.Random(6)
    projection = Projection(system)
    for _ in range(200):
        point = projection.of(space.express(draw(space, rng)))
        same(system.canonical(point), point)


def test_any_point_has_a_genome_that_expresses_its_canonical_point(space):
    system, rng = CoordinateSystem(space), np.random.default_rng(7)
    projection = Projection(system)
    start = projection.of(space.express(draw(space, random.Random(7))))
    for _ in range(200):
        method, base = system.kinds[rng.integers(len(system.kinds))]
        shares = rng.uniform(-0.3, 1.3, start.shares.shape)
        point = system.canonical(
            replace(
                start,
                method=method,
                base=base,
                shares=shares,
                extras=rng.uniform(-0.2, 1.2, len(system.extras)),
            )
        )
        same(projection.of(space.express(system.genome(point))), point)

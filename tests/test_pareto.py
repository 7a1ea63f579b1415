"""Dominance, hypervolume and knee, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipesearch import pareto


def points_of(fewest: int, most: int) -> st.SearchStrategy[list[list[float]]]:
    """Points on a grid, of so many objectives."""
    return st.integers(fewest, most).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(0, 4).map(float), min_size=width, max_size=width), min_size=1, max_size=25
        )
    )


POINTS = points_of(1, 3)


@given(POINTS)
def test_front_is_what_nothing_dominates(points: list[list[float]]) -> None:
    losses = np.array(points)
    for index, on_front in enumerate(pareto.front(losses)):
        dominated = any(
            all(a <= b for a, b in zip(other, losses[index], strict=True)) and any(other < losses[index])
            for other in losses
        )
        assert on_front == (not dominated)


@given(POINTS)
def test_knee_lies_on_the_front(points: list[list[float]]) -> None:
    losses = np.array(points)
    assert pareto.front(losses)[pareto.knee(losses)]


def test_knee_is_the_compromise() -> None:
    assert pareto.knee(np.array([[0.0, 1.0], [0.1, 0.1], [1.0, 0.0]])) == 1


def test_hypervolume_of_known_boxes() -> None:
    losses = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [9.0, 0.0]])
    assert pareto.hypervolume(losses, np.array([4.0, 4.0])) == pytest.approx(6.0)
    assert pareto.hypervolume(losses[3:], np.array([4.0, 4.0])) == 0.0


@given(points_of(2, 4), st.integers(0, 1))
def test_free_boxes_cover_what_no_point_dominates(points: list[list[float]], inside: int) -> None:
    """Points on a grid: within each cell all points are alike, so its centre decides for the cell."""
    losses, reference = np.array(points), np.full(len(points[0]), 5.0 - 2 * inside)
    lower, upper = pareto.free_boxes(losses, reference)
    assert (lower <= upper).all()
    axes = [np.arange(-0.5, end, 1.0) for end in reference]  # from below the least loss to the reference
    centres = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, len(reference))
    free = ~(losses[:, None] <= centres[None]).all(axis=2).any(axis=0)
    covered = ((lower[:, None] < centres[None]) & (centres[None] < upper[:, None])).all(axis=2).sum(axis=0)
    assert covered.tolist() == free.astype(int).tolist(), "once, or not at all"


@given(points_of(2, 4))
def test_free_boxes_and_the_hypervolume_make_up_the_whole_box(points: list[list[float]]) -> None:
    losses, reference = np.array(points), np.full(len(points[0]), 4.5)
    lower, upper = pareto.free_boxes(losses, reference)
    sides = np.maximum(upper - np.maximum(lower, -1.0), 0.0)  # of the box from -1 to the reference
    free = float(np.prod(sides, axis=1).sum())
    assert free + pareto.hypervolume(losses, reference) == pytest.approx(5.5 ** len(reference))


def test_free_boxes_without_a_point_inside_are_one_box() -> None:
    for losses in (np.zeros((0, 2)), np.array([[4.0, 0.0], [9.0, 9.0]])):
        lower, upper = pareto.free_boxes(losses, np.array([4.0, 4.0]))
        assert lower.tolist() == [[-np.inf, -np.inf]]
        assert upper.tolist() == [[4.0, 4.0]]


@given(POINTS, st.data())
def test_volumes_are_the_hypervolumes_of_growing_prefixes(
    points: list[list[float]], data: st.DataObject
) -> None:
    losses = np.array(points)
    counts = sorted(data.draw(st.lists(st.integers(0, len(points)), max_size=5)))
    reference = pareto.beyond(losses)
    wanted = [pareto.hypervolume(losses[:count], reference) for count in counts]
    assert pareto.volumes(losses, counts) == pytest.approx(wanted)


def test_contributions_of_known_boxes() -> None:
    losses = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [3.0, 3.0]])
    reference = np.array([4.0, 4.0])
    assert pareto.contributions(losses, reference) == pytest.approx([1.0, 1.0, 1.0, 0.0])
    twice = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
    assert pareto.contributions(twice, np.array([3.0, 3.0])) == pytest.approx([0.5, 1.0, 0.5])
    assert pareto.contributions(np.array([[5.0, 0.0]]), reference) == pytest.approx([0.0])


@given(POINTS)
def test_each_contribution_is_what_the_volume_lacks_without_the_point(points: list[list[float]]) -> None:
    losses = np.unique(np.array(points), axis=0)
    reference = pareto.beyond(losses)
    assert (losses < reference).all(), "every point is inside"
    whole = pareto.hypervolume(losses, reference)
    for index, volume in enumerate(pareto.contributions(losses, reference)):
        rest = pareto.hypervolume(np.delete(losses, index, axis=0), reference)
        assert volume == pytest.approx(whole - rest, abs=1e-9)
        assert (volume > 1e-9) == pareto.front(losses)[index]


def test_chebyshev_reaches_what_a_weighted_sum_cannot() -> None:
    """The middle of a front that bends inwards: no weights make a sum prefer it."""
    ends, middle = [np.array([1.0, 0.0]), np.array([0.0, 1.0])], np.array([0.4, 0.4])
    weights, ideal = np.array([0.5, 0.5]), np.array([1.0, 1.0])
    assert all(
        pareto.chebyshev(middle, weights, ideal) > pareto.chebyshev(end, weights, ideal) for end in ends
    )
    assert all(pareto.weighted_sum(middle, weights) < pareto.weighted_sum(end, weights) for end in ends)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.5))
def test_a_gain_in_any_objective_is_a_gain_scalarised(one: float, two: float, gain: float) -> None:
    weights, ideal = np.array([0.7, 0.3]), np.array([1.0, 1.0])
    worse, better = np.array([one, two]), np.array([one, two + gain])
    assert pareto.chebyshev(better, weights, ideal) > pareto.chebyshev(worse, weights, ideal)
    assert pareto.weighted_sum(better, weights) > pareto.weighted_sum(worse, weights)

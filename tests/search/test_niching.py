"""Who stays when there are more parents than places, and who suits whom."""

import numpy as np
import pytest

from recipesearch.search.niching import mates, shared_fitness, survivors

# Two that know the same half, one that knows a little of the other half, one that knows nothing.
TWINS = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], float)


def test_an_item_is_shared_by_those_who_have_it() -> None:
    assert shared_fitness(TWINS) == pytest.approx([1.5, 1.5, 1.0, 0.0], abs=1e-6)
    assert shared_fitness(np.array([[0.9], [0.3]])) == pytest.approx([0.75, 0.25], abs=1e-6)


def test_with_niching_a_twin_leaves_before_who_knows_something_else() -> None:
    """Once one twin is gone the other has all that they knew; by means alone both would stay."""
    other = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1]], float)
    assert survivors(other, 2, niching=True) == [0, 2]
    assert survivors(other, 2, niching=False) == [0, 1]


def test_who_has_no_scores_leaves_first_and_of_equals_the_youngest() -> None:
    unknown = np.array([[np.nan, np.nan], [0.0, 0.1], [0.0, 0.1]])
    assert survivors(unknown, 2, niching=True) == [1, 2]
    assert survivors(unknown, 1, niching=False) == [1]


def test_who_must_stay_stays() -> None:
    assert survivors(TWINS, 2, niching=True, always={3}) == [0, 3]
    assert survivors(TWINS, 1, niching=False, always={2, 3}) == [2, 3]


def test_all_stay_where_there_are_places() -> None:
    assert survivors(TWINS, 4, niching=True) == [0, 1, 2, 3]
    assert survivors(TWINS, 9, niching=False) == [0, 1, 2, 3]


def test_mates_know_what_the_other_does_not() -> None:
    assert mates(TWINS, 3) == [(0, 2), (1, 2)]  # each pair once; who adds nothing has no mate
    assert mates(TWINS, 1) == [(0, 2)]
    assert mates(np.ones((3, 4)), 3) == []

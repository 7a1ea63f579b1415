"""Expected gains against their definitions: drawn hypervolumes, and the closed form for one number."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from recipesearch import pareto
from recipesearch.samplers.improvement import expected_gain, expected_volume, quantiles

Array = NDArray[np.float64]
DRAWS = 4000


def brute_force(
    means: Array, spread: float, front: Array, reference: Array, bounds: list[float | None], seed: int
) -> tuple[float, float]:
    """The mean gain of hypervolume over independent draws, and its standard error."""
    draws = means + spread * np.random.default_rng(seed).normal(size=(DRAWS, len(means)))
    before = pareto.hypervolume(front, reference)
    gains = [
        pareto.hypervolume(np.vstack([front, draw]), reference) - before
        if all(bound is None or loss <= bound for loss, bound in zip(draw, bounds, strict=True))
        else 0.0
        for draw in draws
    ]
    return float(np.mean(gains)), float(np.std(gains) / math.sqrt(DRAWS))


def by_quantiles(means: Array, spread: float, count: int = 400) -> Array:
    """Equally likely losses, shape (1, quantiles, objectives)."""
    return np.asarray(means + spread * quantiles(count)[:, None])[None]


@pytest.mark.parametrize("bounded", [False, True], ids=["free", "bounded"])
@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_expected_volume_is_the_mean_gain_of_hypervolume(objectives: int, bounded: bool) -> None:
    chance = np.random.default_rng(objectives)
    front = chance.uniform(size=(8, objectives))
    reference = np.full(objectives, 0.9)
    bounds: list[float | None] = [0.45 if bounded else None, *[None] * (objectives - 1)]
    for seed in range(3):
        means = chance.uniform(0.1, 0.6, objectives)
        (found,) = expected_volume(by_quantiles(means, 0.15), front, reference, bounds)
        wanted, error = brute_force(means, 0.15, front, reference, bounds, seed)
        assert found == pytest.approx(wanted, abs=4 * error + 1e-3)
        assert found > 0


def test_few_quantiles_rank_as_many_do() -> None:
    chance = np.random.default_rng(1)
    front, means = chance.uniform(size=(8, 2)), chance.uniform(0.0, 0.8, size=(50, 2))
    few, many = (
        expected_volume(
            np.vstack([by_quantiles(row, 0.1, count) for row in means]), front, np.ones(2), [None, None]
        )
        for count in (16, 400)
    )
    assert np.corrcoef(few, many)[0, 1] > 0.995
    assert few == pytest.approx(many, abs=0.01)


def test_without_a_front_the_gain_is_the_box_up_to_the_reference() -> None:
    losses = np.array([[[0.5, 0.25]], [[2.0, 0.0]]])
    gains = expected_volume(losses, np.zeros((0, 2)), np.ones(2), [None, None])
    assert gains.tolist() == [0.5 * 0.75, 0.0]


def test_a_dominated_candidate_gains_nothing() -> None:
    front = np.array([[0.2, 0.2]])
    losses = np.array([[[0.3, 0.3]], [[0.2, 0.2]], [[0.1, 0.3]]])
    gains = expected_volume(losses, front, np.ones(2), [None, None])
    assert gains == pytest.approx([0.0, 0.0, 0.1 * 0.7])


def test_a_front_beyond_the_reference_counts_as_none() -> None:
    losses = np.array([[[0.5, 0.5]]])
    gains = expected_volume(losses, np.array([[0.1, 1.0], [2.0, 2.0]]), np.ones(2), [None, None])
    assert gains == pytest.approx([0.25])


def test_a_bound_is_met_by_the_bound_itself() -> None:
    losses = np.array([[[0.5, 0.5]], [[np.nextafter(0.5, 1), 0.5]]])
    gains = expected_volume(losses, np.zeros((0, 2)), np.ones(2), [0.5, None])
    assert gains == pytest.approx([0.25, 0.0])
    assert expected_gain(losses, 0.9, lambda found: found[..., 0], [0.5, None]) == pytest.approx([0.4, 0.0])


def test_candidates_in_several_chunks_are_what_each_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(2)
    losses, front = chance.uniform(size=(9, 5, 3)), chance.uniform(size=(6, 3))
    whole = expected_volume(losses, front, np.ones(3), [None, 0.8, None])
    monkeypatch.setattr("recipesearch.samplers.improvement._CHUNK", 1)
    parts = expected_volume(losses, front, np.ones(3), [None, 0.8, None])
    assert parts.tolist() == whole.tolist()


def test_quantiles_are_symmetric_and_standard() -> None:
    found = quantiles(64)
    assert found == pytest.approx(-found[::-1])
    assert (np.diff(found) > 0).all()
    assert found.std() == pytest.approx(1.0, abs=0.03)
    assert quantiles(1).tolist() == [0.0]


@pytest.mark.parametrize("mean", [-0.5, 0.0, 0.2, 1.0])
@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_expected_gain_is_expected_improvement(mean: float, spread: float) -> None:
    """Jones et al. (1998): (b - m) P((b - m) / s) + s p((b - m) / s)."""
    best = 0.1
    z = (best - mean) / spread
    wanted = (best - mean) * 0.5 * math.erfc(-z / math.sqrt(2)) + spread * math.exp(-z * z / 2) / math.sqrt(
        2 * math.pi
    )
    losses = by_quantiles(np.array([mean]), spread)
    (found,) = expected_gain(losses, best, lambda values: values[..., 0], [None])
    assert found == pytest.approx(wanted, abs=1e-3)
    (few,) = expected_gain(by_quantiles(np.array([mean]), spread, 64), best, lambda v: v[..., 0], [None])
    assert few == pytest.approx(wanted, abs=0.01)


def test_expected_gain_within_a_bound_of_another_objective_is_a_product() -> None:
    """Independent objectives: the gain times the probability of the bound."""
    chance = np.random.default_rng(3)
    losses = chance.normal(size=(1, 200_000, 2))
    (free,) = expected_gain(losses, 0.0, lambda values: values[..., 0], [None, None])
    (bounded,) = expected_gain(losses, 0.0, lambda values: values[..., 0], [None, -1.0])
    assert free == pytest.approx(1 / math.sqrt(2 * math.pi), abs=0.01)
    assert bounded == pytest.approx(free * 0.1587, abs=0.005)

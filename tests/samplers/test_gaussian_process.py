"""The Gaussian process: its gradient, known noise, the likeness of kinds, length scales by dimension."""

import numpy as np
import pytest
from numpy.typing import NDArray

from recipesearch.samplers.gaussian_process import GaussianProcess, Observations, _loss, first_theta, fit

Array = NDArray[np.float64]


def observed(
    points: Array, values: Array, noise: float | Array = 0.0, kinds: NDArray[np.int64] | None = None
) -> Observations:
    count = len(points)
    kinds = np.zeros(count, np.int64) if kinds is None else kinds
    return Observations(points, kinds, values, np.broadcast_to(np.asarray(noise, float), count).copy())


def waves(points: Array) -> Array:
    return np.asarray(np.sin(3 * points[:, 0]) + points[:, 1] ** 2)


def scattered(seed: int, count: int, size: int) -> Array:
    return np.random.default_rng(seed).uniform(size=(count, size))


def fitted(data: Observations) -> Array:
    return fit(data, first_theta(data), 60)


def process(data: Observations) -> GaussianProcess:
    return GaussianProcess(data, fitted(data))


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_of_the_loss_is_that_of_finite_differences(seed: int) -> None:
    chance = np.random.default_rng(seed)
    points = scattered(seed, 14, 3)
    kinds = chance.integers(0, 3, 14)
    data = observed(points, waves(points), chance.uniform(0.01, 0.3, 14), kinds)
    theta = first_theta(data) + chance.normal(0.0, 0.5, 7)
    _, gradient = _loss(theta, data)
    step = 1e-5
    slopes = [
        (_loss(theta + step * e, data)[0] - _loss(theta - step * e, data)[0]) / (2 * step) for e in np.eye(7)
    ]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-4)


def test_a_fit_is_at_a_minimum_of_the_loss() -> None:
    points = scattered(1, 25, 2)
    data = observed(points, waves(points), 0.01)
    theta = fitted(data)
    assert _loss(theta, data)[0] < _loss(first_theta(data), data)[0]
    assert np.abs(_loss(theta, data)[1]).max() < 0.05


def test_values_without_noise_are_met() -> None:
    points = scattered(2, 20, 2)
    model = GaussianProcess(data := observed(points, waves(points)), np.append(fitted(data)[:-1], -14.0))
    means, deviations = model.predict(points, data.kinds)
    np.testing.assert_allclose(means, data.values, atol=0.01)
    assert deviations.max() < 0.02


def test_predictions_are_right_between_observations_and_unsure_far_away() -> None:
    points = scattered(3, 60, 2)
    model = process(observed(points, waves(points)))
    new = scattered(4, 50, 2)
    means, near = model.predict(new, np.zeros(50, np.int64))
    assert np.abs(means - waves(new)).max() < 0.15
    _, far = model.predict(new + 30.0, np.zeros(50, np.int64))
    assert far.min() > 3 * near.max()
    middle = np.abs(means - waves(new)) < 3 * near
    assert middle.mean() > 0.9, "the deviations are honest"


def test_an_observation_with_much_noise_counts_little() -> None:
    """Two scores of nearly one point: the mean is where the one of more items is."""
    points = np.array([[0.5], [0.5001], [0.0], [1.0]])
    values, noise = np.array([0.0, 2.0, 0.0, 0.0]), np.array([0.01, 1.0, 0.01, 0.01])
    data = observed(points, values, noise)
    theta = np.array([np.log(0.3), np.log(2.0), 2.0, 0.0, -10.0])
    (mean,), _ = GaussianProcess(data, theta).predict(points[:1], data.kinds[:1])
    assert mean == pytest.approx(2.0 * 0.01 / 1.01, abs=0.01), "weighted by the inverse of the variances"
    (turned,), _ = GaussianProcess(observed(points, values, noise[[1, 0, 2, 3]]), theta).predict(
        points[:1], data.kinds[:1]
    )
    assert turned > 1.8


def test_noise_draws_a_lone_value_towards_the_mean() -> None:
    theta = np.array([np.log(0.3), 0.0, 2.0, 0.0, -20.0])
    found = [
        float(
            GaussianProcess(observed(np.zeros((1, 1)), np.ones(1), noise), theta).predict(
                np.zeros((1, 1)), np.zeros(1, np.int64)
            )[0][0]
        )
        for noise in (0.0, 1.0, 3.0)
    ]
    assert found == pytest.approx([1.0, 0.5, 0.25], abs=1e-4)


def test_likeness_of_kinds_is_learnt() -> None:
    """Two kinds of one function are alike, two of unrelated functions are not."""
    points, kinds = scattered(5, 60, 2), np.arange(60) % 2
    alike = observed(points, waves(points), 0.001, kinds)
    other = np.cos(7 * points[:, 1]) - 2 * points[:, 0]
    unlike = observed(points, np.where(kinds == 0, waves(points), other), 0.001, kinds)
    one, none = (1 / (1 + np.exp(-fitted(data)[-3])) for data in (alike, unlike))
    assert one > 0.95
    assert none < 0.6
    assert none < one


def test_one_kind_teaches_about_an_alike_kind() -> None:
    """All observations but three are of kind 0; kind 1 is predicted all the same."""
    points = scattered(6, 50, 2)
    kinds = np.where(np.arange(50) < 3, 1, 0)
    model = process(observed(points, waves(points), 0.001, kinds))
    new = scattered(7, 40, 2)
    means, _ = model.predict(new, np.ones(40, np.int64))
    assert np.abs(means - waves(new)).mean() < 0.1


def test_the_prior_of_length_scales_grows_with_the_root_of_the_dimension() -> None:
    """Distances of points grow as much, so the correlation by the prior is the same in any dimension."""
    lengths = {
        size: np.exp(first_theta(observed(scattered(8, 3, size), np.ones(3)))[:-4]) for size in (1, 4, 100)
    }
    assert [len(values) for values in lengths.values()] == [1, 4, 100]
    assert lengths[4] == pytest.approx(2 * lengths[1][0])
    assert lengths[100] == pytest.approx(10 * lengths[1][0])


def test_a_fit_of_few_points_stays_near_the_prior() -> None:
    points = scattered(9, 3, 40)
    data = observed(points, np.array([0.1, -0.1, 0.2]), 0.05)
    assert np.abs(fitted(data)[:-4] - first_theta(data)[:-4]).max() < 0.3


def test_forty_coordinates_of_which_two_matter_are_learnt() -> None:
    points = scattered(10, 120, 40)
    data = observed(points, waves(points), 0.001)
    theta = fitted(data)
    assert theta[:2].max() < theta[2:-4].min(), "the two have the shortest length scales"
    new = scattered(11, 60, 40)
    means, _ = GaussianProcess(data, theta).predict(new, np.zeros(60, np.int64))
    assert np.corrcoef(means, waves(new))[0, 1] > 0.9


def test_equal_input_gives_equal_results() -> None:
    points = scattered(12, 30, 5)
    data = observed(points, waves(points), 0.01, np.arange(30) % 3)
    first, second = fitted(data), fitted(data)
    assert first.tolist() == second.tolist()
    new = scattered(13, 9, 5)
    kinds = np.arange(9) % 3
    for one, other in zip(
        GaussianProcess(data, first).predict(new, kinds),
        GaussianProcess(data, second).predict(new, kinds),
        strict=True,
    ):
        assert one.tolist() == other.tolist()


def test_equal_points_without_noise_are_no_error() -> None:
    """Two recipes may have the same coordinates, and different scores."""
    data = observed(np.zeros((6, 2)), np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]))
    means, deviations = process(data).predict(np.zeros((1, 2)), np.zeros(1, np.int64))
    assert means[0] == pytest.approx(0.5, abs=0.05)
    assert np.isfinite(deviations).all()

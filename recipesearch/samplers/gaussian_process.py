"""A Gaussian process over merge coordinates, with known noise and a learnt likeness of methods.

Matern 5/2 with one length scale for each coordinate. The prior of the length scales grows with the square
root of the dimension (Hvarfner et al., 2402.02229), so that 40 coordinates are no harder to fit than 6.
Points of different kinds (merge method and base) are alike by a factor that is learnt. Each observation has
noise of its own, known from its items. Written with numpy: the process that owns a study does not load torch,
and Optuna's own process has one noise for all observations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kinds = NDArray[np.int64]

BESIDE_LENGTHS = 4  # hyperparameters beside the length scales, at the end of theta
_VARIANCE, _LIKENESS, _MEAN, _NUGGET = -4, -3, -2, -1
_ROOT5 = math.sqrt(5.0)
_LENGTH, _LENGTH_SPREAD = 0.5, 0.9  # median of a length scale in one dimension; spread of its logarithm
_JITTER = 1e-6
_SPREAD = 1e-5  # added to the variances of joint draws, whose covariance is nearly singular
_WORST = 1e10  # the loss of hyperparameters without a Cholesky factor


@dataclass(frozen=True)
class Observations:
    """Points of shape (n, coordinates), their kinds, and noisy values with the variances of their noise."""

    points: Array
    kinds: Kinds
    values: Array
    noise: Array


class GaussianProcess:
    """A process conditioned on observations, which predicts values without noise.

    ``theta`` are the hyperparameters, as ``fit`` returns them: the logarithms of the length scales and of the
    variance, the logit of the likeness of two kinds, the mean, and the logarithm of the variance of any noise
    beyond the known noise.
    """

    def __init__(self, data: Observations, theta: Array) -> None:
        self._data, self._theta = data, theta
        kernel, *_ = _kernel(theta, data.points, data.kinds, data.points, data.kinds)
        self._factor = np.linalg.cholesky(kernel + np.diag(data.noise + np.exp(theta[_NUGGET]) + _JITTER))
        self._weights = self._solve(data.values - theta[_MEAN])

    @property
    def noise(self) -> float:
        """The standard deviation of a typical observation's noise."""
        return float(np.sqrt(np.median(self._data.noise) + np.exp(self._theta[_NUGGET])))

    def predict(self, points: Array, kinds: Kinds) -> tuple[Array, Array]:
        """Means and standard deviations at points, shape (points,) each."""
        from scipy.linalg import solve_triangular

        cross, *_ = _kernel(self._theta, points, kinds, self._data.points, self._data.kinds)
        means = cross @ self._weights + self._theta[_MEAN]
        half = solve_triangular(self._factor, cross.T, lower=True)
        variances = np.exp(self._theta[_VARIANCE]) - (half**2).sum(axis=0)
        return means, np.sqrt(np.maximum(variances, 1e-9))

    def draw(self, points: Array, kinds: Kinds, normals: Array) -> Array:
        """Joint draws of the values at points, from standard normal numbers of shape (draws, points)."""
        from scipy.linalg import solve_triangular

        cross, *_ = _kernel(self._theta, points, kinds, self._data.points, self._data.kinds)
        among, *_ = _kernel(self._theta, points, kinds, points, kinds)
        half = solve_triangular(self._factor, cross.T, lower=True)
        factor = np.linalg.cholesky(among - half.T @ half + _SPREAD * np.eye(len(points)))
        return np.asarray(cross @ self._weights + self._theta[_MEAN] + normals @ factor.T)

    def _solve(self, values: Array) -> Array:
        from scipy.linalg import cho_solve

        return np.asarray(cho_solve((self._factor, True), values))


def first_theta(data: Observations) -> Array:
    """The hyperparameters that the prior favours."""
    size = data.points.shape[1]
    return np.array([*np.full(size, _length(size)), math.log(2.0), 2.0, float(data.values.mean()), -4.0])


def fit(data: Observations, start: Array, iterations: int) -> Array:
    """The most probable hyperparameters, by L-BFGS from ``start``."""
    from scipy.optimize import minimize

    found = minimize(
        lambda theta: _loss(theta, data),
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations},
    )
    return np.asarray(found.x)


def _length(size: int) -> float:
    return math.log(_LENGTH) + 0.5 * math.log(max(size, 1))


def _kernel(
    theta: Array, one: Array, kinds: Kinds, other: Array, others: Kinds
) -> tuple[Array, Array, Array]:
    """Covariances of two sets of points, the same without the factor of kinds, and scaled distances."""
    lengths, variance, likeness = (
        np.exp(theta[:_VARIANCE]),
        np.exp(theta[_VARIANCE]),
        1 / (1 + np.exp(-theta[_LIKENESS])),
    )
    a, b = one / lengths, other / lengths
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    distances = _ROOT5 * np.sqrt(np.maximum(squares, 0.0))
    plain = variance * (1 + distances + distances**2 / 3) * np.exp(-distances)
    return plain * np.where(kinds[:, None] == others[None], 1.0, likeness), plain, distances


def _loss(theta: Array, data: Observations) -> tuple[float, Array]:
    """The negative logarithm of the posterior of the hyperparameters, and its gradient."""
    from scipy.linalg import cho_solve

    kernel, plain, distances = _kernel(theta, data.points, data.kinds, data.points, data.kinds)
    nugget = np.exp(theta[_NUGGET])
    try:
        factor = np.linalg.cholesky(kernel + np.diag(data.noise + nugget + _JITTER))
    except np.linalg.LinAlgError:
        return _WORST, np.zeros_like(theta)
    centred = data.values - theta[_MEAN]
    solved = cho_solve((factor, True), centred)
    inverse = cho_solve((factor, True), np.eye(len(centred)))
    loss = 0.5 * centred @ solved + np.log(np.diagonal(factor)).sum()
    inner = 0.5 * (inverse - np.outer(solved, solved))  # d loss / d kernel
    gradient = np.empty_like(theta)
    gradient[:_VARIANCE] = _by_lengths(theta, data, inner, distances)
    gradient[_VARIANCE] = (inner * kernel).sum()
    likeness = 1 / (1 + np.exp(-theta[_LIKENESS]))
    apart = data.kinds[:, None] != data.kinds[None]
    gradient[_LIKENESS] = (inner * plain * apart).sum() * likeness * (1 - likeness)
    gradient[_MEAN] = -solved.sum()
    gradient[_NUGGET] = np.trace(inner) * nugget
    prior, slope = _prior(theta, data)
    return float(loss + prior), gradient + slope


def _by_lengths(theta: Array, data: Observations, inner: Array, distances: Array) -> Array:
    """The gradient with respect to the logarithms of the length scales."""
    variance, likeness = np.exp(theta[_VARIANCE]), 1 / (1 + np.exp(-theta[_LIKENESS]))
    alike = np.where(data.kinds[:, None] == data.kinds[None], 1.0, likeness)
    slopes = inner * variance * alike * (5.0 / 3.0) * (1 + distances) * np.exp(-distances)
    scaled = data.points / np.exp(theta[:_VARIANCE])
    # The sum over pairs of slopes * (x_a - x_b)^2, without the array of all pairs and coordinates.
    return np.asarray(
        2 * (slopes.sum(axis=1) @ scaled**2) - 2 * np.einsum("aj,aj->j", scaled, slopes @ scaled)
    )


def _prior(theta: Array, data: Observations) -> tuple[float, Array]:
    centres = first_theta(data)
    spreads = np.array([*np.full(len(theta) - BESIDE_LENGTHS, _LENGTH_SPREAD), 1.0, 2.0, 2.0, 1.0])
    scaled = (theta - centres) / spreads
    return float(0.5 * (scaled**2).sum()), scaled / spreads

"""What a candidate is expected to add: to the front's hypervolume, or to the best value.

Losses throughout: lower is better. A candidate's losses are independent of each other given the model, so the
expected volume is a sum over boxes of products over objectives, each a mean over a few quantiles: no random
numbers, and the same answer for the same study.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .. import pareto

Array = NDArray[np.float64]

_CHUNK = 2**22  # numbers in one intermediate array


def quantiles(count: int) -> Array:
    """Quantiles of the standard normal distribution at the middles of ``count`` equal shares."""
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(count) + 0.5) / count))


def expected_volume(losses: Array, front: Array, reference: Array, bounds: Sequence[float | None]) -> Array:
    """The expected gain of hypervolume of each candidate, shape (candidates,).

    ``losses``: equally likely losses of each candidate, shape (candidates, quantiles, objectives). ``front``:
    the losses of the front, shape (members, objectives). A loss above its bound adds nothing.
    """
    lower, upper = pareto.free_boxes(front, reference)
    step = max(1, _CHUNK // (losses.shape[1] * len(lower)))
    return np.concatenate(
        [_volume(losses[i : i + step], lower, upper, bounds) for i in range(0, len(losses), step)]
    )


def _volume(losses: Array, lower: Array, upper: Array, bounds: Sequence[float | None]) -> Array:
    product = np.ones((len(losses), len(lower)))
    for objective, bound in enumerate(bounds):
        values = losses[:, :, objective, None]
        sides = np.maximum(upper[:, objective] - np.maximum(values, lower[:, objective]), 0.0)
        if bound is not None:
            sides = np.where(values <= bound, sides, 0.0)
        product *= sides.mean(axis=1)
    return np.asarray(product.sum(axis=1))


def expected_gain(
    losses: Array, best: float, value: Callable[[Array], Array], bounds: Sequence[float | None]
) -> Array:
    """The expected gain over ``best`` of a single number, shape (candidates,).

    ``losses``: equally likely losses, shape (candidates, draws, objectives). ``value`` turns losses, along
    the last axis, into the number that is minimised.
    """
    gains = np.maximum(best - value(losses), 0.0)
    for objective, bound in enumerate(bounds):
        if bound is not None:
            gains = np.where(losses[:, :, objective] <= bound, gains, 0.0)
    return np.asarray(gains.mean(axis=1))

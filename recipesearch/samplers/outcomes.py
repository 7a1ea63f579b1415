"""Metrics on the scale of a Gaussian process, with the variance of their noise, and back.

Shares of right items become log-odds, for which the noise is binomial. Positive metrics that span more than a
factor of three, such as perplexities, become logarithms. Other metrics are only centred and scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..score import Measurement

Array = NDArray[np.float64]

_WIDE = 3.0  # ratio of the largest to the smallest positive value
_TINY = 1e-300  # instead of a bound of 0
_EDGE = 1e-3  # the nearest that a share without items may come to 0 or 1


@dataclass(frozen=True)
class Outcome:
    """The scale of one metric, fixed by its measurements."""

    kind: Literal["share", "positive", "plain"]
    centre: float = 0.0
    spread: float = 1.0

    def latent(self, measured: Sequence[Measurement]) -> tuple[Array, Array]:
        """Values and variances of the noise on the scale of the process; variance 0 for an unknown error."""
        values = np.array([m.value for m in measured])
        errors = np.array([m.stderr or 0.0 for m in measured])
        if self.kind == "share":
            return _log_odds(values, errors, [m.items for m in measured])
        if self.kind == "positive":
            values = np.maximum(values, _TINY)
            values, errors = np.log(values), errors / values
        return (values - self.centre) / self.spread, (errors / self.spread) ** 2

    def natural(self, latent: Array) -> Array:
        """Values of the metric."""
        if self.kind == "share":
            return np.asarray(1.0 / (1.0 + np.exp(-latent)))
        plain = latent * self.spread + self.centre
        return np.asarray(np.exp(plain) if self.kind == "positive" else plain)


def outcome(measured: Sequence[Measurement]) -> Outcome:
    """The scale that suits these measurements of one metric."""
    values = np.array([m.value for m in measured])
    if values.min() >= 0.0 and values.max() <= 1.0:
        return Outcome("share")
    wide = values.min() > 0.0 and values.max() > _WIDE * values.min()
    scaled = np.log(values) if wide else values
    return Outcome("positive" if wide else "plain", float(scaled.mean()), float(scaled.std()) or 1.0)


def _log_odds(shares: Array, errors: Array, items: Sequence[int | None]) -> tuple[Array, Array]:
    """Log-odds with half an item added on either side, so that 0 and 1 are finite.

    The number of items follows from the standard error, which is 0 where none or all items are right.
    """
    known = errors > 0
    counts = np.array([count or 0 for count in items], dtype=float)
    counts[known] = shares[known] * (1 - shares[known]) / errors[known] ** 2 + 1
    if not counts.any():
        inside = np.clip(shares, _EDGE, 1 - _EDGE)
        return np.log(inside / (1 - inside)), np.zeros_like(shares)
    counts[counts == 0] = np.median(counts[counts > 0])
    inside = (shares * counts + 0.5) / (counts + 1)
    return np.log(inside / (1 - inside)), 1.0 / ((counts + 1) * inside * (1 - inside))

"""A numeric gene's position in its range, from 0 to 1, on a log scale for log-scaled genes; and back."""

from __future__ import annotations

import math

from optuna.distributions import BaseDistribution, FloatDistribution

MIDDLE = 0.5


def to_unit(gene: BaseDistribution, value: float) -> float:
    """A value's position in its gene's range; the middle of a range without width."""
    assert isinstance(gene, FloatDistribution)
    low, high, value = (math.log(v) if gene.log else v for v in (gene.low, gene.high, value))
    return (value - low) / (high - low) if high > low else MIDDLE


def from_unit(gene: BaseDistribution, position: float) -> float:
    """The value at a position in a gene's range."""
    assert isinstance(gene, FloatDistribution)
    low, high = (math.log(v) if gene.log else v for v in (gene.low, gene.high))
    value = low + position * (high - low)
    return min(max(math.exp(value) if gene.log else value, gene.low), gene.high)

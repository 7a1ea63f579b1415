"""How far recipes lie from each other, by their genes and by their answers.

Both distances are Gower's (Biometrics 27, 1971): the mean of differences between 0 and 1, over those
features that count for the pair. Diversity is the mean distance of all pairs: 0 if all are equal, at most
1. A recipe that is there twice counts twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from ..space.choice import Genome

Values = NDArray[np.float64]
Known = NDArray[np.bool_]


def genotypic(
    genes: Mapping[str, BaseDistribution],
    genomes: Sequence[Genome],
    active: Sequence[Set[str]] | None = None,
) -> float | None:
    """The diversity of genomes. Two choices differ by 0 or 1, two numbers by their share of the gene's
    range, logarithms where it is searched so.

    A gene counts for a pair if it is active in one of the two (``active``: its names for each genome; None:
    all genes count): idle genes drift without any selection and would look like diversity. None for fewer
    than two genomes.
    """
    points = np.array([[_position(gene, genome[name]) for name, gene in genes.items()] for genome in genomes])
    counts = [[active is None or name in active[i] for name in genes] for i in range(len(genomes))]
    return _mean_distance(points, np.array(counts, bool), np.logical_or)


def behavioural(values: Values) -> float | None:
    """The diversity of answers, shape (recipes, items): the mean |difference| on the items that both have.

    ``values`` lie in [0, 1], NaN where a recipe has none. With answers that are right or wrong this is the
    share of items on which two recipes disagree. None for fewer than two recipes, and where no two have an
    item in common.
    """
    return _mean_distance(values, ~np.isnan(values), np.logical_and)


def _mean_distance(points: Values, known: Known, together: Callable[[Known, Known], Known]) -> float | None:
    """Gower's distance, mean over pairs. ``points`` and ``known`` have shape (points, features); a feature
    counts for a pair as its two ``known`` say ``together``. Differences end at 1: so do those of
    choices."""
    distances = []
    for index in range(len(points) - 1):
        counted = together(known[index], known[index + 1 :])
        apart = np.minimum(np.abs(points[index] - points[index + 1 :]), 1.0)
        features = counted.sum(axis=1)
        sums = np.where(counted, apart, 0.0).sum(axis=1)
        distances.extend(sums[features > 0] / features[features > 0])
    return float(np.mean(distances)) if distances else None


def _position(gene: BaseDistribution, value: Any) -> float:
    """Where in its gene's range a value lies, 0 to 1; a choice by its number."""
    if not isinstance(gene, FloatDistribution):
        assert isinstance(gene, CategoricalDistribution)
        return float(gene.to_internal_repr(value))
    low, high, at = gene.low, gene.high, float(value)
    if gene.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low) if high > low else 0.0

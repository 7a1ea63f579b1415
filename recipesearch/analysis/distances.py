"""Distances between recipes, by their genes and by their answers.

Both distances are Gower's (Biometrics 27, 1971): the mean difference, from 0 to 1, over the features that
count for the pair. Diversity is the mean distance of all pairs: 0 if all recipes are equal, at most 1. A
recipe that occurs twice counts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from ..space.choice import Genome
from ..space.positions import to_unit

Values = NDArray[np.float64]
Known = NDArray[np.bool_]


def genotypic(
    genes: Mapping[str, BaseDistribution],
    genomes: Sequence[Genome],
    active: Sequence[Set[str]] | None = None,
) -> float | None:
    """The diversity of genomes; None for fewer than two.

    Two choices differ by 0 or 1. Two numbers differ by their distance as a share of the gene's range, on a
    log scale for log-scaled genes. ``active`` are the names of each genome's active genes; a gene counts for
    a pair if it is active in one of the two. Idle genes drift without selection, which would look like
    diversity. With None all genes count.
    """
    points = np.array([[_position(gene, genome[name]) for name, gene in genes.items()] for genome in genomes])
    counts = [[active is None or name in active[i] for name in genes] for i in range(len(genomes))]
    return _mean_distance(points, np.array(counts, bool), np.logical_or)


def behavioural(values: Values) -> float | None:
    """The diversity of answers: the mean absolute difference on the items that two recipes share.

    ``values`` have shape (recipes, items) and are from 0 to 1, or NaN for a missing answer. For answers that
    are right or wrong, the difference is the share of items on which two recipes disagree. None if no two
    recipes share an item.
    """
    return _mean_distance(values, ~np.isnan(values), np.logical_and)


def _mean_distance(points: Values, known: Known, together: Callable[[Known, Known], Known]) -> float | None:
    """The mean of Gower's distance over all pairs; None if no feature counts for any pair.

    ``points`` and ``known`` have shape (points, features). ``together`` combines the ``known`` masks of two
    points into the mask of the features that count. Differences are clipped to 1, which makes choices by
    number differ by 0 or 1.
    """
    distances = []
    for index in range(len(points) - 1):
        counted = together(known[index], known[index + 1 :])
        apart = np.minimum(np.abs(points[index] - points[index + 1 :]), 1.0)
        features = counted.sum(axis=1)
        sums = np.where(counted, apart, 0.0).sum(axis=1)
        distances.extend(sums[features > 0] / features[features > 0])
    return float(np.mean(distances)) if distances else None


def _position(gene: BaseDistribution, value: Any) -> float:
    """A value's position in its gene's range, from 0 to 1; for a choice, its index."""
    if not isinstance(gene, FloatDistribution):
        assert isinstance(gene, CategoricalDistribution)
        return float(gene.to_internal_repr(value))
    return to_unit(gene, float(value))

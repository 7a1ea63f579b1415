"""Whose work a front is: its hypervolume, divided among the parents of its members. Light."""

from __future__ import annotations

import numpy as np

from .. import pareto
from ..recipe.shares import parent_shares
from ..space.kinds import Space
from ..study.results import Results


def hypervolume_by_parent(results: Results, space: Space) -> dict[str, float]:
    """The share of the front's hypervolume that each parent of a study stands for, by name: they sum to 1.

    Each member's own contribution (``pareto.contributions``; the reference is a little beyond the eligible
    recipes' worst losses) is divided by ``parent_shares`` of its recipe. Every parent is named, also those
    that no member of the front has. Empty where there is nothing to divide: without scores, and with more
    objectives than volumes are computed for (``pareto.MOST_OBJECTIVES``). ``space`` is the study's own.
    """
    if not results.scored or len(results.objectives) > pareto.MOST_OBJECTIVES:
        return {}
    members = np.array([results.loss(row) for row in results.front])
    volumes = pareto.contributions(members, pareto.beyond(results.losses()))
    names = {parent: name for name, parent in space.pool.parents.items()}
    found = dict.fromkeys(names.values(), 0.0)
    for row, volume in zip(results.front, volumes / volumes.sum(), strict=True):
        for parent, share in parent_shares(space.express(row.genome)).items():
            found[names[parent]] += float(volume) * share
    return found

"""The credit of parents: the front's hypervolume, divided among the parents of the front's recipes. Light."""

from __future__ import annotations

import numpy as np

from .. import pareto
from ..recipe.shares import parent_shares
from ..space.kinds import Space
from ..study.results import Results


def hypervolume_by_parent(results: Results, space: Space) -> dict[str, float]:
    """Each parent's share of the front's hypervolume, by the parent's name. The shares sum to 1.

    The contribution of each recipe on the front (``pareto.contributions``, with the reference
    ``pareto.beyond`` all eligible recipes) is divided among its parents by ``parent_shares``. A parent of no
    recipe on the front has share 0. Empty without scores and for more objectives than
    ``pareto.MOST_OBJECTIVES``. ``space`` is the study's space.
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

"""Co-evolution of training settings: a winner inherits and perturbs its mutant ancestor's settings. Light.

Self-adaptation as in evolution strategies (Schwefel): settings change by factors of exp(N(0, perturb^2)).
Settings survive if their mutants pass the gate and have children.
"""

from __future__ import annotations

import math
import random
from typing import Any

from ..analysis.family import walk
from ..mutation.breeder import Breeder, Elite
from ..plan import MutationPlan, Plan
from ..recipe import Recipe

# The settings that change, with the minimum of each whole-numbered one; 0 marks a real number.
_MOST = 8  # maximum of a whole number, as a multiple of the plan's value: larger ones cost memory and time
_LEAST = {"learning_rate": 0, "beta": 0, "steps": 1, "rank": 1, "pairs": 8}


def settings_for(elite: Elite, plan: Plan, breeder: Breeder, attempt: int = 0) -> MutationPlan:
    """The mutation settings of an elite: the plan's or, with ``perturb``, inherited and perturbed ones.

    Deterministic in the plan's seed, the elite and the attempt.
    """
    how = plan.mutation
    assert how is not None
    if not how.perturb:
        return how
    stated = {key: getattr(how, key) for key in _LEAST}
    inherited = _inherited(elite, breeder)
    settings = stated | {key: inherited[key] for key in stated if key in inherited}
    chance = random.Random(f"{plan.search.seed}/{elite.parent.digest}/settings{attempt or ''}")
    for key, least in _LEAST.items():
        value = settings[key] * math.exp(chance.gauss(0.0, how.perturb))
        if least:
            value = min(value, stated[key] * _MOST)
        settings[key] = (
            max(int(least), round(value)) if isinstance(settings[key], int) else float(f"{value:.3g}")
        )
    return how.model_copy(update=settings)


def _inherited(elite: Elite, breeder: Breeder) -> dict[str, Any]:
    """The settings of the mutant with the largest share in the elite, not counting mutants behind mutants.

    {} if the elite has no mutant ancestor.
    """
    assert isinstance(elite.parent.source, Recipe)
    family = walk(elite.parent.source)
    parts = dict.fromkeys(family.models, 0.0) | {family.root: 1.0}
    for digest in reversed(family.oldest_first):
        if not family.models[digest].adapter:  # do not look behind a mutant: it inherited its settings
            for edge in family.made_of(digest):
                parts[edge.parent] += parts[digest] * edge.share
    mutants = [digest for digest, model in family.models.items() if model.adapter and parts[digest] > 0]
    known = breeder.mutants.among(mutants)
    nearest = max(known, key=lambda digest: (parts[digest], digest), default=None)
    return dict(known[nearest].record["settings"]) if nearest else {}

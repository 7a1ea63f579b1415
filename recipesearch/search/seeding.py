"""An era's seeds in addition to its space's own: the previous front, mates, immigrants. Light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from optuna.study import create_study

from ..space.kinds import Space
from ..space.seeds import Labelled, average
from ..space.weights import WeightSpace
from ..study.results import Row


def inherited(front: Sequence[Row], study: str, space: Space) -> list[Labelled]:
    """The previous front's recipes that the new space expresses with the same digest.

    They are scored already, and so can be parents from the first generation on.
    """
    found = []
    for row in front:
        genome = _translated(row.genome, space)
        if space.express(genome).digest == row.recipe:
            found.append((f"trial {row.number} of {study}", genome))
    return found


def averages(pairs: Sequence[tuple[str, str]], space: Space) -> list[Labelled]:
    """The plain average of each pair of parents, if the space's methods can express it."""
    assert isinstance(space, WeightSpace)
    named = ((f"mates {one}+{other}", average(space, (one, other))) for one, other in pairs)
    return [(label, genome) for label, genome in named if genome is not None]


def immigrants(count: int, space: Space, chance: Random) -> list[Labelled]:
    """Random genomes, for diversity in a first generation that would otherwise contain only seeds."""
    draws = create_study(sampler=RandomSampler(seed=chance.getrandbits(31)))
    return [(f"immigrant {place}", draws.ask(space.genes).params) for place in range(count)]


def _translated(genome: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """A genome in the genes of another space. New genes get 0 or False, or the nearest value in range."""
    found: dict[str, Any] = {}
    for name, gene in space.genes.items():
        if name in genome and _takes(gene, genome[name]):
            found[name] = genome[name]
        elif isinstance(gene, FloatDistribution):
            found[name] = min(max(0.0, gene.low), gene.high)
        elif isinstance(gene, CategoricalDistribution):
            found[name] = False if False in gene.choices else gene.choices[0]
    return found


def _takes(gene: BaseDistribution, value: Any) -> bool:
    if isinstance(gene, CategoricalDistribution):
        return value in gene.choices
    return isinstance(gene, FloatDistribution) and gene.low <= value <= gene.high

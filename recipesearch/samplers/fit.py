"""What each sampler can search, the rejection of unsuitable spaces, and the choice of ``auto``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from optuna.distributions import BaseDistribution, CategoricalDistribution

from ..errors import PlanError
from ..pareto import MOST_OBJECTIVES
from ..plan import SearchPlan

Genes = Mapping[str, BaseDistribution]
_MANY = 100  # genes


@dataclass(frozen=True)
class Ability:
    """What a sampler supports in addition to numeric genes and one objective.

    - ``choices``: categorical genes.
    - ``objectives``: several objectives.
    - ``constraints``: bounds on objectives.
    - ``breeds``: the sampler works in generations, and the seeds are the first generation.
    - ``coordinates``: the sampler needs merge coordinates, which layer spaces lack.
    - ``starts``: the sampler draws around a mean, and the best seed is the first mean.
    """

    choices: bool = True
    objectives: bool = True
    constraints: bool = True
    breeds: bool = False
    starts: bool = False
    coordinates: bool = False


_GAUSSIAN = Ability(choices=False, objectives=False, constraints=False, starts=True)
SAMPLERS: Mapping[str, Ability] = {
    "merge_gp": Ability(coordinates=True),
    "nsga2": Ability(breeds=True),
    "nsga3": Ability(breeds=True),
    "tpe": Ability(),
    "gp": Ability(),
    "cmaes": _GAUSSIAN,
    "sep_cmaes": _GAUSSIAN,
    "pycma": _GAUSSIAN,
    "catcmawm": Ability(objectives=False, constraints=False, starts=True),
    "random": Ability(),
}


@dataclass(frozen=True)
class Choice:
    """The sampler that a study uses, and the reason."""

    sampler: str
    reason: str


def choose(
    search: SearchPlan,
    genes: Genes,
    objectives: int,
    constrained: bool = False,
    coordinates: bool = False,
) -> Choice:
    """The plan's sampler, or the sampler that ``auto`` selects for this number of objectives.

    ``coordinates``: the space has merge coordinates. Raises PlanError, with the way out, if the plan's
    sampler cannot search this space.
    """
    if not genes:
        raise PlanError("the space has no genes: add parents, methods or layer groups")
    values = 1 if search.scalarize else objectives
    modelled = coordinates and objectives <= MOST_OBJECTIVES
    if search.items is not None and not (modelled and search.sampler in ("auto", "merge_gp")):
        raise PlanError(
            "search.items needs the sampler merge_gp, a space of weights and at most "
            f"{MOST_OBJECTIVES} objectives; remove search.items, and every recipe is scored on all items"
        )
    if search.sampler == "auto":
        if modelled:
            return Choice("merge_gp", "a model of the merges by what each parent contributes to each place")
        return _auto(genes, values, constrained)
    if SAMPLERS[search.sampler].coordinates:
        _require_coordinates(search.sampler, coordinates, objectives)
    _require_fit(search.sampler, genes, values, constrained)
    return Choice(search.sampler, "the study file names it")


def _require_coordinates(sampler: str, coordinates: bool, objectives: int) -> None:
    if not coordinates:
        raise PlanError(f"sampler {sampler} needs space.weights: for space.layers use auto, tpe or nsga2")
    if objectives > MOST_OBJECTIVES:
        raise PlanError(
            f"sampler {sampler} takes up to {MOST_OBJECTIVES} objectives, but the plan has {objectives}: "
            "use auto or nsga3"
        )


def _require_fit(sampler: str, genes: Genes, values: int, constrained: bool) -> None:
    ability = SAMPLERS[sampler]
    choices = _choices(genes)
    if choices and not ability.choices:
        raise PlanError(
            f"sampler {sampler} needs numeric genes, but '{choices[0]}' is a choice: "
            "name one method and set 'parents: all', or use catcmawm, tpe or nsga2"
        )
    if values > 1 and not ability.objectives:
        raise PlanError(
            f"sampler {sampler} needs one objective, but the plan has {values}: "
            "set search.scalarize (one weight per objective), or use nsga2"
        )
    if sampler == "pycma":
        _require_pycma(genes)
    if constrained and not ability.constraints:
        raise PlanError(f"sampler {sampler} does not support bounds: use auto, nsga2, nsga3, tpe or gp")


def _require_pycma(genes: Genes) -> None:
    if len(genes) < 2:
        raise PlanError("sampler pycma needs two genes or more: use cmaes")
    if not (_is_installed("cma") and _is_installed("optuna_integration")):
        raise PlanError(
            "sampler pycma needs two more packages: pip install -e '.[run,pycma]' in the checkout; "
            "or use cmaes, the same algorithm"
        )


def _is_installed(package: str) -> bool:
    # optuna_integration hides its spec once it is imported, for which find_spec raises ValueError.
    return package in sys.modules or find_spec(package) is not None


def _auto(genes: Genes, values: int, constrained: bool) -> Choice:
    """The rule of ``auto`` without merge coordinates (docs/benchmarks.md)."""
    count, choices = len(genes), len(_choices(genes))
    if values > 3:
        return Choice("nsga3", f"{values} objectives: it keeps a front of more than three spread out")
    if values > 1:
        return Choice("tpe", f"{values} objectives, no merge coordinates")
    if constrained:
        return Choice("nsga2", "one objective with bounds, a small population")
    if choices:
        return Choice("catcmawm", f"one objective, {choices} of {count} genes are choices")
    if count > _MANY:
        return Choice("sep_cmaes", f"one objective, {count} numeric genes: too many to learn correlations")
    return Choice("cmaes", f"one objective, {count} numeric genes")


def _choices(genes: Genes) -> list[str]:
    return [name for name, gene in genes.items() if isinstance(gene, CategoricalDistribution)]

"""An Optuna sampler from a sampler's name, with its own seed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.samplers.nsgaii import PolynomialMutation, SBXCrossover
from optuna.study import Study
from optuna.trial import FrozenTrial

from .catcmawm import CatCMAwMSampler
from .fit import Genes
from .merge_gp import MergeGPSampler
from .problem import Problem

_MUTATION = 0.2  # probability per gene
_MARGIN = 1e-6  # of a range


def build(
    sampler: str,
    genes: Genes,
    seed: int,
    *,
    population: int,
    start: Mapping[str, Any],
    problem: Problem | None = None,
) -> BaseSampler:
    """An Optuna sampler by name.

    ``start`` is the first mean of samplers that draw around a mean. ``problem`` is for model-based samplers.
    """
    if sampler == "merge_gp":
        assert problem is not None
        return MergeGPSampler(problem, seed)
    with warnings.catch_warnings():
        # The mutation operators are experimental. x0 will be removed in Optuna 6.0, but is the only way to
        # give CMA-ES its first mean.
        for kind in (FutureWarning, ExperimentalWarning, UserWarning):
            warnings.simplefilter("ignore", kind)
        return _named(sampler, genes, seed, population, start)


def drop_from_generation(sampler: BaseSampler, study: Study, trial: FrozenTrial) -> None:
    """Drops a trial from its sampler's generation, because its genome is no longer the sampler's draw."""
    if isinstance(sampler, CatCMAwMSampler):
        sampler.drop_from_generation(study, trial)
    elif isinstance(sampler, CmaEsSampler):
        study._storage.set_trial_system_attr(trial._trial_id, sampler._attr_key_generation, -1)


def _named(sampler: str, genes: Genes, seed: int, population: int, start: Mapping[str, Any]) -> BaseSampler:
    match sampler:
        case "nsga2":
            return NSGAIISampler(population_size=population, seed=seed, **_operators(genes))
        case "nsga3":
            return NSGAIIISampler(population_size=population, seed=seed, **_operators(genes))
        case "cmaes" | "sep_cmaes":
            return CmaEsSampler(use_separable_cma=sampler == "sep_cmaes", **_around(genes, start, seed))
        case "pycma":
            from optuna_integration import PyCmaSampler

            return PyCmaSampler(**_around(genes, start, seed))  # type: ignore[no-any-return]
        case "catcmawm":
            return CatCMAwMSampler(genes, start, seed)
        case "tpe":
            return TPESampler(multivariate=True, seed=seed)
        case "gp":
            return GPSampler(seed=seed)
    return RandomSampler(seed=seed)


def _around(genes: Genes, start: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A seed and a first mean, which is kept off the ends of the ranges.

    At an end half of all draws are clipped, and cma rejects the mean.
    """
    mean = {}
    for name, gene in genes.items():
        assert isinstance(gene, FloatDistribution)
        margin = _MARGIN * (gene.high - gene.low)
        mean[name] = min(max(start[name], gene.low + margin), gene.high - margin)
    # No startup trials: otherwise the first trial is drawn at random.
    return {"x0": mean, "seed": seed, "n_startup_trials": 0, "warn_independent_sampling": False}


def _operators(genes: Genes) -> dict[str, Any]:
    """Wider steps than Optuna's defaults, which suit longer runs (docs/benchmarks.md)."""
    return {
        "crossover": SBXCrossover(eta=2.0),
        "mutation": PolynomialMutation(eta=5.0),
        "mutation_prob": max(_MUTATION, 1.0 / len(genes)),
    }

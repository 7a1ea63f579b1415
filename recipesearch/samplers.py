"""From a sampler's name in the plan to an Optuna sampler: the only module that tells them apart.

Optuna stores no sampler's random state, so the sampler is rebuilt for every trial from (plan seed, era,
trial number): a resumed study draws what the uninterrupted one would have drawn, and nothing lives outside
the database.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.samplers.nsgaii import PolynomialMutation, SBXCrossover
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from .errors import PlanError
from .plan import SearchPlan

Genes = Mapping[str, BaseDistribution]
_REDRAWS = 10
_MUTATION = 0.2  # NSGA-II's chance for each gene


def require_fit(search: SearchPlan, genes: Genes, objectives: int) -> None:
    """Raises PlanError, with the way out, if the plan's sampler cannot search this space."""
    if not genes:
        raise PlanError("the space has no genes: give more parents, methods or layer groups")
    if search.sampler == "cmaes":
        fixed = [name for name, gene in genes.items() if not isinstance(gene, FloatDistribution)]
        if fixed:
            raise PlanError(
                f"sampler cmaes needs numeric genes, but '{fixed[0]}' is a choice: "
                "fix one method and 'parents: all', or use nsga2 or tpe"
            )
        if objectives > 1 and search.scalarize is None:
            raise PlanError(
                f"sampler cmaes needs one objective, but the plan has {objectives}: "
                "state search.scalarize (one weight each), or use nsga2"
            )


class PerTrialSampler(BaseSampler):
    """Composes an Optuna sampler that is built anew, with a seed of its own, for each trial.

    ``repeated`` says whether a genome expresses a recipe that the study has already tried; such a draw is
    repeated with further seeds, a bounded number of times. ``start`` is CMA-ES's first mean.
    """

    def __init__(
        self,
        search: SearchPlan,
        genes: Genes,
        start: Mapping[str, float],
        repeated: Callable[[Mapping[str, Any]], bool],
        era: str = "era0",
    ) -> None:
        self._search, self._genes, self._start = search, dict(genes), start
        self._repeated, self._era = repeated, era

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All genes: every trial holds every gene, so nothing need be inferred from the past."""
        return self._genes

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The inner sampler's genome, completed; {} where it has none to give yet."""
        genome: dict[str, Any] = {}
        # A second draw would make CMA-ES count the trial twice; its genomes do not repeat anyway.
        for attempt in range(1 if self._search.sampler == "cmaes" else _REDRAWS):
            inner = self._build(trial.number, attempt)
            genome = inner.sample_relative(study, trial, search_space)
            if not genome:
                return genome
            # NSGA-II leaves out the categorical genes that it mutates.
            for name, gene in search_space.items():
                if name not in genome:
                    genome[name] = self._draw(study, trial, name, gene, attempt)
            if not self._repeated(genome):
                break
        return genome

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw with the gene's own seed, so that the order of the genes does not matter."""
        return self._draw(study, trial, param_name, param_distribution, 0)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Lets the inner sampler note the trial's end."""
        self._build(trial.number, 0).after_trial(study, trial, state, values)

    def _draw(self, study: Study, trial: FrozenTrial, name: str, gene: BaseDistribution, attempt: int) -> Any:
        uniform = RandomSampler(seed=self._seed(trial.number, attempt, name))
        return uniform.sample_independent(study, trial, name, gene)

    def _build(self, number: int, attempt: int) -> BaseSampler:
        with warnings.catch_warnings():
            # The mutation operators are new, and x0 leaves Optuna in 6.0: until then it is the one way to
            # give CMA-ES its first mean.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", ExperimentalWarning)
            return self._inner(self._seed(number, attempt, ""))

    def _inner(self, seed: int) -> BaseSampler:
        match self._search.sampler:
            case "nsga2":
                return NSGAIISampler(
                    population_size=self._search.population,
                    # Wider steps than Optuna's defaults, which suit longer runs (bench_operators.py).
                    crossover=SBXCrossover(eta=2.0),
                    mutation=PolynomialMutation(eta=5.0),
                    mutation_prob=max(_MUTATION, 1.0 / len(self._genes)),
                    seed=seed,
                )
            case "cmaes":
                return CmaEsSampler(x0=dict(self._start), seed=seed, warn_independent_sampling=False)
            case "tpe":
                return TPESampler(multivariate=True, seed=seed)
            case "random":
                return RandomSampler(seed=seed)

    def _seed(self, number: int, attempt: int, gene: str) -> int:
        text = f"{self._search.seed}/{self._era}/{number}/{attempt}/{gene}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % (2**31)

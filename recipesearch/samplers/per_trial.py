"""A sampler that is rebuilt for each trial and avoids known recipes.

Optuna stores no sampler's random state. The sampler is therefore rebuilt for every trial from (plan seed,
era, trial number): a resumed study draws what the uninterrupted study would have drawn, and no state exists
outside the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..plan import SearchPlan
from .build import build, drop_from_generation
from .fit import SAMPLERS, Genes
from .marks import SEED
from .problem import Problem

_REDRAWS, _MUTATIONS = 10, 10


@dataclass(frozen=True)
class Known:
    """Whether a genome's recipe was tried before, and which genes decide its recipe."""

    repeated: Callable[[Mapping[str, Any]], bool] = lambda genome: False
    active: Callable[[Mapping[str, Any]], set[str]] = lambda genome: set(genome)


class PerTrialSampler(BaseSampler):
    """Wraps the Optuna sampler of a name, rebuilt with its own seed for each trial.

    ``start`` is the first mean of samplers that have one. If the study has scored seeds that are merges, the
    best of them is the first mean instead. A genome whose recipe was tried before is mutated in an active
    gene until it is new, a bounded number of times. Samplers that draw around a mean first draw again.
    """

    def __init__(
        self,
        sampler: str,
        search: SearchPlan,
        genes: Genes,
        start: Mapping[str, Any],
        known: Known | None = None,
        problem: Problem | None = None,
        *,
        era: str = "era0",
    ) -> None:
        self._name, self._ability = sampler, SAMPLERS[sampler]
        self._search, self._genes, self._start = search, dict(genes), start
        self._known, self._era = known or Known(), era
        self._problem = problem

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All genes: every trial has every gene, so nothing is inferred from past trials."""
        return self._genes

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The inner sampler's genome, completed and new; {} for a seed if the sampler has no generations."""
        if SEED in trial.user_attrs and not self._ability.breeds:
            return {}  # its genes are fixed, and the inner sampler did not draw them
        genome = self._draw_genome(study, trial, search_space, 0)
        redraws = _REDRAWS if self._ability.starts else 1
        for attempt in range(1, redraws + _MUTATIONS):
            if not self._known.repeated(genome):
                break
            if attempt < redraws:
                genome = self._draw_genome(study, trial, search_space, attempt)
                continue
            if attempt == redraws > 1:  # converged: the sampler must learn only from its own draws
                drop_from_generation(self._build(study, trial.number, 0), study, trial)
            genome = self._mutate(study, trial, genome, attempt)
        return genome

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw with the gene's own seed, so that the order of the genes does not matter."""
        return self._draw(study, trial, param_name, param_distribution, 0)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Passes the trial's end on to the inner sampler."""
        self._build(study, trial.number, 0).after_trial(study, trial, state, values)

    def _draw_genome(
        self, study: Study, trial: FrozenTrial, genes: dict[str, BaseDistribution], attempt: int
    ) -> dict[str, Any]:
        inner = self._build(study, trial.number, attempt)
        if self._ability.starts:
            study = cast(Study, _Unseeded(study))
        genome = inner.sample_relative(study, trial, genes)
        # NSGA-II draws nothing in its first generation, and later omits categorical genes that it mutates.
        for name, gene in genes.items():
            if name not in genome:
                genome[name] = self._draw(study, trial, name, gene, attempt)
        return genome

    def _mutate(
        self, study: Study, trial: FrozenTrial, genome: Mapping[str, Any], attempt: int
    ) -> dict[str, Any]:
        """The genome with another value in one active gene.

        Applied when the proposed genome expresses a known recipe.
        """
        active = [name for name in sorted(self._known.active(genome)) if not self._genes[name].single()]
        if not active:  # the genome is the only one there is
            return dict(genome)
        chance = np.random.default_rng(self._seed(trial.number, attempt, "mutate"))
        name = active[int(chance.integers(len(active)))]
        gene = self._genes[name]
        if isinstance(gene, CategoricalDistribution):
            others = [choice for choice in gene.choices if choice != genome[name]]
            return {**genome, name: others[int(chance.integers(len(others)))]}
        return {**genome, name: self._draw(study, trial, name, gene, attempt)}

    def _draw(self, study: Study, trial: FrozenTrial, name: str, gene: BaseDistribution, attempt: int) -> Any:
        uniform = RandomSampler(seed=self._seed(trial.number, attempt, name))
        return uniform.sample_independent(study, trial, name, gene)

    def _build(self, study: Study, number: int, attempt: int) -> BaseSampler:
        start = self._best_seed(study) if self._ability.starts else {}
        return build(
            self._name,
            self._genes,
            self._seed(number, attempt, ""),
            population=self._search.population,
            start=start or self._start,
            problem=self._problem,
        )

    def _best_seed(self, study: Study) -> Mapping[str, Any]:
        """The genome of the best scored seed that is a merge; {} if there is none.

        A parent alone is a corner of the space: most draws around it would be clipped back to the corner.
        """
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        seeds = [t for t in trials if SEED in t.user_attrs and not self._is_corner(t.params)]
        best = max if study.direction == StudyDirection.MAXIMIZE else min
        return best(seeds, key=lambda trial: trial.value or 0.0).params if seeds else {}

    def _is_corner(self, genome: Mapping[str, Any]) -> bool:
        """Whether a gene is missing, or a third or more of the numeric genes are at an end of their range."""
        numbers = {n: g for n, g in self._genes.items() if isinstance(g, FloatDistribution)}
        if not self._genes.keys() <= genome.keys():
            return True
        ends = sum(genome[name] in (gene.low, gene.high) for name, gene in numbers.items())
        return bool(numbers) and 3 * ends >= len(numbers)

    def _seed(self, number: int, attempt: int, gene: str) -> int:
        text = f"{self._search.seed}/{self._era}/{number}/{attempt}/{gene}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % (2**31)


class _Unseeded:
    """A study without its seeds, for samplers that learn from all trials as if they had drawn them.

    A seed many standard deviations from the mean would inflate the covariance.
    """

    def __init__(self, study: Study) -> None:
        self._study = study

    @property
    def trials(self) -> list[FrozenTrial]:
        return self._without(self._study.trials)

    def _get_trials(self, *arguments: Any, **keywords: Any) -> list[FrozenTrial]:
        return self._without(self._study._get_trials(*arguments, **keywords))

    def _without(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        return [trial for trial in trials if SEED not in trial.user_attrs]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

"""CatCMAwM: CMA-ES over numbers and choices together, as an Optuna sampler.

Hamano et al., 2504.07884. The optimiser is ``cmaes.CatCMAwM``. Only its draws are stored, as plain JSON with
each trial. Its state is rebuilt by replaying the study's generations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..space.positions import MIDDLE, from_unit, to_unit

if TYPE_CHECKING:
    from cmaes import CatCMAwM

_DRAWN = "catcmawm"  # a trial's system attribute: its generation, and the draw before clipping
_STEP = 1 / 6  # of each range: the initial standard deviation
_FAVOUR = 0.5  # initial probability reserved for a choice's start value; all values share the rest

Array = NDArray[np.float64]


class CatCMAwMSampler(BaseSampler):
    """Proposes numbers around a mean and choices by their probabilities. Both are learned from ranks.

    One objective only. ``start`` gives the first mean, and the choices that are likelier at first. Genes that
    ``start`` lacks begin in the middle. Trials that this sampler did not draw are ignored.
    """

    def __init__(self, genes: Mapping[str, BaseDistribution], start: Mapping[str, Any], seed: int) -> None:
        self._numbers = {n: g for n, g in genes.items() if isinstance(g, FloatDistribution)}
        self._choices = {n: g for n, g in genes.items() if isinstance(g, CategoricalDistribution)}
        self._start, self._seed = start, seed
        self._uniform = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All genes."""
        return {**self._numbers, **self._choices}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A genome of the current generation."""
        optimizer = self._replayed(study)
        optimizer.reseed_rng(self._seed)
        drawn = optimizer.ask()
        raw = [] if drawn._v_raw is None else drawn._v_raw.tolist()
        note = {"generation": optimizer.generation, "raw": raw}
        study._storage.set_trial_system_attr(trial._trial_id, _DRAWN, note)
        numbers = zip(self._numbers.items(), [] if drawn.x is None else drawn.x, strict=True)
        choices = zip(self._choices.items(), [] if drawn.c is None else drawn.c, strict=True)
        return {
            **{name: from_unit(gene, float(x)) for (name, gene), x in numbers},
            **{name: gene.choices[int(np.argmax(row))] for (name, gene), row in choices},
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw."""
        return self._uniform.sample_independent(study, trial, param_name, param_distribution)

    def drop_from_generation(self, study: Study, trial: FrozenTrial) -> None:
        """Drops a trial from its generation, so the optimiser never learns from it."""
        study._storage.set_trial_system_attr(trial._trial_id, _DRAWN, {"generation": -1, "raw": []})

    def _replayed(self, study: Study) -> CatCMAwM:
        """The optimiser after all complete generations of the study."""
        optimizer = self._fresh()
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        for trials in _generations(study, optimizer.population_size):
            optimizer.tell([(self._solution(trial), sign * float(trial.value or 0.0)) for trial in trials])
        return optimizer

    def _fresh(self) -> CatCMAwM:
        from cmaes import CatCMAwM  # brings scipy.stats, a second to import

        count = len(self._numbers)
        sizes = [len(gene.choices) for gene in self._choices.values()]
        return CatCMAwM(
            x_space=[[0.0, 1.0]] * count if count else None,
            c_space=sizes or None,
            mean=np.array([self._unit(name) for name in self._numbers]) if count else None,
            # Set explicitly: the default is narrow near the ends of a range, and zero at them.
            cov=np.eye(count) * _STEP**2 if count else None,
            cat_param=self._first_probabilities(sizes) if sizes else None,
            seed=self._seed,
        )

    def _unit(self, name: str) -> float:
        gene = self._numbers[name]
        return to_unit(gene, self._start[name]) if name in self._start else MIDDLE

    def _first_probabilities(self, sizes: Sequence[int]) -> Array:
        table = np.zeros((len(sizes), max(sizes)))
        for row, (name, gene), size in zip(table, self._choices.items(), sizes, strict=True):
            favour = _FAVOUR if self._start.get(name) in gene.choices else 0.0
            row[:size] = (1 - favour) / size
            if favour:
                row[gene.choices.index(self._start[name])] += favour
        return table

    def _solution(self, trial: FrozenTrial) -> CatCMAwM.Solution:
        from cmaes import CatCMAwM

        params = trial.params
        numbers = [to_unit(gene, params[name]) for name, gene in self._numbers.items()]
        one_hot = np.zeros(
            (len(self._choices), max((len(g.choices) for g in self._choices.values()), default=0))
        )
        for row, (name, gene) in zip(one_hot, self._choices.items(), strict=True):
            row[gene.choices.index(params[name])] = 1
        return CatCMAwM.Solution(
            x=np.array(numbers) if numbers else None,
            c=one_hot.astype(bool) if self._choices else None,
            _v_raw=np.array(trial.system_attrs[_DRAWN]["raw"]) if numbers else None,
        )


def _generations(study: Study, size: int) -> Iterator[list[FrozenTrial]]:
    """The study's complete generations, in order: of each the ``size`` trials that were completed first.

    Not the first by number: with several workers a trial may end after its generation was learned from.
    """
    by_generation: dict[int, list[FrozenTrial]] = {}
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for trial in sorted(complete, key=lambda trial: (trial.datetime_complete, trial.number)):
        if _DRAWN in trial.system_attrs:
            by_generation.setdefault(trial.system_attrs[_DRAWN]["generation"], []).append(trial)
    for generation in range(len(by_generation)):
        trials = by_generation.get(generation, [])[:size]
        if len(trials) < size:
            return
        yield trials

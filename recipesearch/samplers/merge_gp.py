"""Bayesian optimisation over merge coordinates, as an Optuna sampler.

A Gaussian process for each objective describes the merges that were scored, with the noise of each score
known from its items. The next recipe is the candidate with the most expected hypervolume (one number: the
most expected gain) among steps from the front and random points. The sampler has no state beside the study:
hyperparameters are stored with the trial that they were fitted for, as plain numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from threadpoolctl import threadpool_limits

from ..space.coordinates import Coordinates
from .gaussian_process import BESIDE_LENGTHS, Observations, first_theta, fit
from .marks import GAIN
from .merge_model import MergeModel, Seen
from .moves import Kind, Moves
from .problem import Problem

Array = NDArray[np.float64]

_THETA = "merge_gp"  # a trial's system attribute: the hyperparameters of each objective
_FIRST = 6  # recipes before the model proposes, at corners of the space and anywhere in turn
_TRIES = 10  # first recipes that are drawn until one is new
_NEAR, _ANYWHERE, _AGAIN, _BEST = 300, 75, 150, 8  # candidates: from the front, random, from the best
_REFIT, _FIRST_STEPS, _STEPS = 0.1, 25, 12  # new observations before a fit; steps of a first and a later fit


class MergeGPSampler(BaseSampler):
    """Proposes genomes whose merges are expected to add most. One to four objectives, with bounds."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem = problem
        self._chance = np.random.default_rng(seed)
        self._uniform = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: a genome is drawn whole by ``sample_relative``."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A genome of a recipe that was not tried before, if one is found."""
        # Small matrices: more threads than one cost up to a hundred times more on a busy machine.
        with threadpool_limits(limits=1, user_api="blas"):
            return self._propose(study, trial)

    def _propose(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        moves = Moves(self._problem.system, self._chance)
        seen = Seen.of(study, self._problem, trial)
        if seen.drawn + len(self._problem.known) < self._first or not seen.scores:
            start = moves.anywhere if seen.drawn % 2 else moves.corner
            return self._new([start(self._kind(seen.drawn)) for _ in range(_TRIES)])[1]
        model = MergeModel(self._problem, seen)
        model.condition(self._thetas(study, trial, model.data, len(seen.scores)))
        forced = self._forced(seen)
        point, genome = self._new(self._ranked(moves, model, forced))
        if forced is None:
            gain = float(model.gain([point])[0] / model.scale)
            study._storage.set_trial_user_attr(trial._trial_id, GAIN, gain)
        return genome

    def _new(self, points: Sequence[Coordinates]) -> tuple[Coordinates, dict[str, Any]]:
        """The first point whose recipe was not tried before, or else the first point, with its genome."""
        for point in points:
            genome = self._problem.system.genome(point)
            if not self._problem.repeated(genome):
                return point, genome
        return points[0], self._problem.system.genome(points[0])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw."""
        return self._uniform.sample_independent(study, trial, param_name, param_distribution)

    @property
    def _first(self) -> int:
        """The number of recipes beside the seeds that are scored before the model proposes."""
        return max(_FIRST, len(self._problem.system.kinds))

    def _kind(self, number: int) -> Kind:
        kinds = self._problem.system.kinds
        return kinds[number % len(kinds)]

    def _ranked(self, moves: Moves, model: MergeModel, kind: Kind | None) -> list[Coordinates]:
        """Candidates of a kind, or of any kind, best first."""
        good = model.good
        points = [moves.near(good, kind) for _ in range(_NEAR)]
        points += [moves.anywhere(kind or self._kind(n)) for n in range(_ANYWHERE)]
        worth = model.worth(points)
        best = [points[index] for index in np.argsort(-worth, kind="stable")[:_BEST]]
        again = [moves.near(best, kind) for _ in range(_AGAIN)]
        worth = np.concatenate([worth, model.worth(again)])
        points += again
        return [points[index] for index in np.argsort(-worth, kind="stable")]

    def _forced(self, seen: Seen) -> Kind | None:
        """The kind that was tried least, at steps that grow rarer: no kind is given up for good."""
        kinds = self._problem.system.kinds
        if len(kinds) < 2 or not _due(seen.drawn - self._first):
            return None
        counts = dict.fromkeys(kinds, 0)
        for point in seen.points:
            counts[point.kind] = counts.get(point.kind, 0) + 1
        return min(kinds, key=lambda kind: counts[kind])

    def _thetas(
        self, study: Study, trial: FrozenTrial, data: Sequence[Observations], count: int
    ) -> list[Array]:
        """The hyperparameters of each objective: the last stored ones, fitted again after enough scores.

        ``count`` is the number of all scores, of which ``data`` may have a part.
        """
        stored = _stored(study, trial, data[0].points.shape[1] + BESIDE_LENGTHS)
        if stored and count - stored[0] < max(3, _REFIT * stored[0]):
            return stored[1]
        starts = stored[1] if stored else [first_theta(one) for one in data]
        steps = _STEPS if stored else _FIRST_STEPS
        thetas = [fit(one, start, steps) for one, start in zip(data, starts, strict=True)]
        note: Any = {"scores": count, "theta": [theta.tolist() for theta in thetas]}
        study._storage.set_trial_system_attr(trial._trial_id, _THETA, note)
        return thetas


def _due(step: int) -> bool:
    """Whether a step is one of 4, 9, 15, 22, ...: at gaps that grow by one."""
    gap = due = 4
    while due < step:
        gap += 1
        due += gap
    return due == step


def _stored(study: Study, trial: FrozenTrial, size: int) -> tuple[int, list[Array]] | None:
    """The number of scores of the last fit before a trial, and its hyperparameters."""
    for other in reversed(study.get_trials(deepcopy=False)[: trial.number]):
        note = other.system_attrs.get(_THETA)
        if note and len(note["theta"][0]) == size:
            return note["scores"], [np.array(theta) for theta in note["theta"]]
    return None

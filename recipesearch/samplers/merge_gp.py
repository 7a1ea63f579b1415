"""Bayesian optimisation over merge coordinates, as an Optuna sampler.

A Gaussian process for each objective describes the merges that were scored, with the noise of each score
known from its items. The next recipe is the candidate with the most expected hypervolume (one number: the
most expected gain) among steps from the front and random points. The sampler has no state beside the study:
hyperparameters are stored with the trial that they were fitted for, as plain numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from .. import pareto
from ..space.coordinates import Coordinates
from .gaussian_process import GaussianProcess, Kinds, Observations, first_theta, fit
from .improvement import expected_gain, expected_volume, quantiles
from .moves import Kind, Moves, features
from .outcomes import Outcome, outcome
from .problem import Problem, Scores, scalarized

Array = NDArray[np.float64]

_THETA = "merge_gp"  # a trial's system attribute: the hyperparameters of each objective
_CORNERS = 6  # recipes at corners of the space, before the model proposes
_NEAR, _ANYWHERE, _AGAIN, _BEST = 300, 75, 150, 8  # candidates: from the front, random, from the best
_QUANTILES, _DRAWS = 16, 64
_REFIT, _FIRST_STEPS, _STEPS = 0.1, 25, 12  # new observations before a fit; steps of a first and a later fit
_MOST = 400  # observations that a model takes
_ELITES = 6  # of one number: points to step from


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
        from threadpoolctl import threadpool_limits

        # Small matrices: more threads than one cost up to a hundred times more on a busy machine.
        with threadpool_limits(limits=1, user_api="blas"):
            return self._propose(study, trial)

    def _propose(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        moves = Moves(self._problem.system, self._chance)
        seen = _Seen.of(study, trial, self._problem)
        if seen.drawn + len(self._problem.known) < self._first or not seen.scores:
            candidates = [moves.corner(self._kind(seen.drawn)) for _ in range(10)]
        else:
            model = _Model(self._problem, seen)
            model.condition(self._thetas(study, trial, model.data, len(seen.scores)))
            candidates = self._ranked(moves, model, seen)
        for point in candidates:
            genome = self._problem.system.genome(point)
            if not self._problem.repeated(genome):
                break
        return genome

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw."""
        return self._uniform.sample_independent(study, trial, param_name, param_distribution)

    @property
    def _first(self) -> int:
        """The number of recipes beside the seeds that are scored before the model proposes."""
        return max(_CORNERS, len(self._problem.system.kinds))

    def _kind(self, number: int) -> Kind:
        kinds = self._problem.system.kinds
        return kinds[number % len(kinds)]

    def _ranked(self, moves: Moves, model: _Model, seen: _Seen) -> list[Coordinates]:
        """Candidates, best first."""
        kind = self._forced(seen)
        good = model.good
        points = [moves.near(good, kind) for _ in range(_NEAR)]
        points += [moves.anywhere(kind or self._kind(n)) for n in range(_ANYWHERE)]
        worth = model.worth(points)
        best = [points[index] for index in np.argsort(-worth, kind="stable")[:_BEST]]
        again = [moves.near(best, kind) for _ in range(_AGAIN)]
        worth = np.concatenate([worth, model.worth(again)])
        points += again
        return [points[index] for index in np.argsort(-worth, kind="stable")]

    def _forced(self, seen: _Seen) -> Kind | None:
        """The kind that was tried least, at steps that grow rarer: no kind is given up for good."""
        steps = seen.drawn - self._first
        kinds = self._problem.system.kinds
        gap, at = 4, 4
        while at < steps:
            gap += 1
            at += gap
        if len(kinds) < 2 or at != steps:
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
        stored = _stored(study, trial, data[0].points.shape[1] + 4)
        if stored and count - stored[0] < max(3, _REFIT * stored[0]):
            return stored[1]
        starts = stored[1] if stored else [first_theta(one) for one in data]
        steps = _STEPS if stored else _FIRST_STEPS
        thetas = [fit(one, start, steps) for one, start in zip(data, starts, strict=True)]
        note: Any = {"scores": count, "theta": [theta.tolist() for theta in thetas]}
        study._storage.set_trial_system_attr(trial._trial_id, _THETA, note)
        return thetas


def _stored(study: Study, trial: FrozenTrial, size: int) -> tuple[int, list[Array]] | None:
    """The number of scores of the last fit before a trial, and its hyperparameters."""
    for other in reversed(study.get_trials(deepcopy=False)[: trial.number]):
        note = other.system_attrs.get(_THETA)
        if note and len(note["theta"][0]) == size:
            return note["scores"], [np.array(theta) for theta in note["theta"]]
    return None


@dataclass(frozen=True)
class _Seen:
    """Distinct scored points and their scores, the indices of seeds among them, and points without a score.

    ``drawn`` is the number of trials that are no seeds.
    """

    points: Sequence[Coordinates]
    scores: Sequence[Scores]
    seeds: Sequence[int]
    pending: Sequence[Coordinates]
    drawn: int

    @classmethod
    def of(cls, study: Study, trial: FrozenTrial, problem: Problem) -> _Seen:
        points: list[Coordinates] = []
        scores: list[Scores] = []
        pending, seeds, drawn = [], [], 0
        recipes: set[str] = set()
        for other in study.get_trials(deepcopy=False):
            if other.number == trial.number or not other.params:
                continue
            drawn += not problem.is_seed(other)
            recipe = problem.recipe(other)
            if recipe is None or recipe in recipes:
                continue
            recipes.add(recipe)
            found = problem.scores(other) if other.state == TrialState.COMPLETE else None
            if found is not None:
                if problem.is_seed(other):
                    seeds.append(len(points))
                points.append(problem.point(other))
                scores.append(found)
            elif other.state == TrialState.RUNNING:
                pending.append(problem.point(other))
        for digest, (point, found) in problem.known.items():
            if digest not in recipes:
                points.append(point)
                scores.append(found)
        return cls(points, scores, seeds, pending, drawn)


class _Model:
    """The processes of all objectives, and what they say about points."""

    def __init__(self, problem: Problem, seen: _Seen) -> None:
        self._problem, self._seen = problem, seen
        kinds = [*problem.system.kinds, *(point.kind for point in seen.points)]
        self._numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
        columns = list(zip(*seen.scores, strict=True))
        self._outcomes: list[Outcome] = [outcome(column) for column in columns]
        signs, rows = np.array(problem.signs), [[m.value for m in row] for row in seen.scores]
        kept = most_telling(signs * np.array(rows))
        points, kinds_ = self._inputs([seen.points[index] for index in kept])
        self.data = [
            Observations(points, kinds_, *scale.latent([column[index] for index in kept]))
            for scale, column in zip(self._outcomes, columns, strict=True)
        ]

    def condition(self, thetas: Sequence[Array]) -> None:
        """Conditions the processes on the scores, and on pending points as if these scored their means."""
        data = self.data
        self._processes = [GaussianProcess(one, theta) for one, theta in zip(data, thetas, strict=True)]
        if self._seen.pending:
            points, kinds = self._inputs(self._seen.pending)
            data = [
                Observations(
                    np.vstack([one.points, points]),
                    np.concatenate([one.kinds, kinds]),
                    np.concatenate([one.values, process.predict(points, kinds)[0]]),
                    np.concatenate([one.noise, np.zeros(len(points))]),
                )
                for one, process in zip(data, self._processes, strict=True)
            ]
            self._processes = [GaussianProcess(one, theta) for one, theta in zip(data, thetas, strict=True)]

    @cached_property
    def means(self) -> Array:
        """The losses of the posterior means of the scored points, shape (points, objectives)."""
        return self._losses(self._seen.points, np.zeros(1))[:, 0]

    @cached_property
    def good(self) -> list[Coordinates]:
        """The points to step from: the front by posterior means, or the best few of one number."""
        inside = self._inside
        if self._one:
            order = np.argsort(self._value(self.means) + np.where(inside, 0.0, np.inf), kind="stable")[
                :_ELITES
            ]
            return [self._seen.points[index] for index in order]
        front = np.flatnonzero(inside)[pareto.front(self.means[inside])]
        return [self._seen.points[index] for index in front]

    def worth(self, points: Sequence[Coordinates]) -> Array:
        """The expected gain of each point, shape (points,)."""
        if self._one:
            values = self._value(self.means[self._inside])
            # If no point is within all bounds, any point within them is a gain.
            best = float(values.min() if self._within.any() else values.max())
            losses = self._losses(points, quantiles(_DRAWS) if self.count == 1 else self._normals)
            return expected_gain(losses, best, self._value, self._bounds)
        losses = self._losses(points, quantiles(_QUANTILES))
        front = self.means[self._inside if self._within.any() else np.zeros(len(self.means), bool)]
        return expected_volume(losses, front, self._reference, self._bounds)

    @property
    def count(self) -> int:
        """The number of objectives."""
        return len(self._problem.signs)

    @property
    def _one(self) -> bool:
        return self.count == 1 or self._problem.scalarize is not None

    def _value(self, losses: Array) -> Array:
        plan = self._problem.scalarize
        return np.asarray(losses[..., 0] if plan is None else -scalarized(plan, self._problem.signs, losses))

    @cached_property
    def _bounds(self) -> list[float | None]:
        return list(self._problem.bounds())

    @cached_property
    def _within(self) -> NDArray[np.bool_]:
        """Whether each scored point is within all bounds."""
        found = np.ones(len(self.means), bool)
        for objective, bound in enumerate(self._bounds):
            if bound is not None:
                found &= self.means[:, objective] <= bound
        return found

    @cached_property
    def _inside(self) -> NDArray[np.bool_]:
        """The points within all bounds, or all points if none is."""
        return self._within if self._within.any() else np.ones(len(self.means), bool)

    @cached_property
    def _normals(self) -> Array:
        """The same draws for every point, shape (draws, objectives)."""
        return np.random.default_rng(0).normal(size=(_DRAWS, self.count))

    @cached_property
    def _reference(self) -> Array:
        """Just beyond the worst seed in each objective; beyond the worst point without seeds."""
        rows = list(self._seen.seeds) or list(range(len(self.means)))
        return np.asarray(np.nextafter(self.means[rows].max(axis=0), np.inf))

    def _losses(self, points: Sequence[Coordinates], normals: Array) -> Array:
        """Losses at standard normal deviates, shape (points, deviates, objectives)."""
        inputs = self._inputs(points)
        found = []
        for number, (process, scale) in enumerate(zip(self._processes, self._outcomes, strict=True)):
            means, deviations = process.predict(*inputs)
            own = normals if normals.ndim == 1 else normals[:, number]
            latent = means[:, None] + deviations[:, None] * own
            found.append(self._problem.signs[number] * scale.natural(latent))
        return np.stack(found, axis=-1)

    def _inputs(self, points: Sequence[Coordinates]) -> tuple[Array, Kinds]:
        numbers = np.array([self._numbers[point.kind] for point in points], dtype=np.int64)
        return features(self._problem.system, points), numbers


def most_telling(losses: Array) -> list[int]:
    """The points that a model takes, from ``losses`` of shape (points, objectives).

    All points; of very many the best in any objective, and an even share of the rest.
    """
    if len(losses) <= _MOST:
        return list(range(len(losses)))
    ranks = losses.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable").min(axis=1)
    order = np.argsort(ranks, kind="stable")
    best, rest = order[: _MOST // 2], order[_MOST // 2 :]
    spread = rest[np.linspace(0, len(rest) - 1, _MOST - len(best)).astype(int)]
    return sorted({*best.tolist(), *spread.tolist()})

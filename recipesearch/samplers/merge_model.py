"""The model of a study's merges: a Gaussian process for each objective over merge coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from .. import pareto
from ..score import Measurement
from ..space.coordinates import Coordinates
from .gaussian_process import GaussianProcess, Kinds, Observations
from .improvement import expected_gain, expected_volume, quantiles
from .marks import RECIPE, SEED
from .most_telling import MOST_OBSERVATIONS, most_telling
from .moves import features
from .outcomes import Outcome, outcome
from .problem import Problem, Scores, scalarized

Array = NDArray[np.float64]
# For each objective, means and standard deviations at points on the scale of its process.
Predicted = Sequence[tuple[Array, Array]]

_QUANTILES, _DRAWS = 16, 64
_FAILED_NOISE = 0.5  # variance of the noise of a failed recipe, which counts as the worst score
_SAME = 0.02  # a difference in every coordinate below which two recipes count as the same
_ELITES = 6  # of one number: points to step from


@dataclass(frozen=True)
class Seen:
    """Distinct scored recipes with their points and scores, and the points that are being scored or failed.

    ``seeds`` are the indices of the study's seeds. The first ``own`` recipes are the study's; the others are
    known from other studies. ``drawn`` is the number of trials that are no seeds.
    """

    recipes: Sequence[str]
    points: Sequence[Coordinates]
    scores: Sequence[Scores]
    seeds: Sequence[int]
    pending: Sequence[Coordinates]
    failed: Sequence[Coordinates]
    own: int
    drawn: int

    @classmethod
    def of(cls, study: Study, problem: Problem, trial: FrozenTrial | None = None) -> Seen:
        """What a study has seen, apart from the trial that is being proposed."""
        scored: dict[str, tuple[Coordinates, Scores]] = {}
        pending, failed, seeds, drawn = [], [], [], 0
        recipes: set[str] = set()
        for other in study.get_trials(deepcopy=False):
            if (trial and other.number == trial.number) or not other.params:
                continue
            drawn += SEED not in other.user_attrs
            recipe = other.user_attrs.get(RECIPE)
            if recipe is None or recipe in recipes:
                continue
            recipes.add(recipe)
            found = problem.scores(other) if other.state == TrialState.COMPLETE else None
            if found is not None:
                if SEED in other.user_attrs:
                    seeds.append(len(scored))
                scored[recipe] = problem.point(other), found
            elif other.state == TrialState.RUNNING:
                pending.append(problem.point(other))
            elif other.state == TrialState.FAIL:
                failed.append(problem.point(other))
        rows = {**scored, **{d: known for d, known in problem.known.items() if d not in recipes}}
        points, scores = [point for point, _ in rows.values()], [found for _, found in rows.values()]
        return cls(list(rows), points, scores, seeds, pending, failed, len(scored), drawn)


class MergeModel:
    """The processes of all objectives, their predictions at points, and the gains to expect."""

    def __init__(self, problem: Problem, seen: Seen) -> None:
        self._problem, self._seen = problem, seen
        # Known recipes may be of kinds that the space lacks.
        kinds = [*problem.system.kinds, *(point.kind for point in seen.points)]
        self._numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
        columns = list(zip(*seen.scores, strict=True))
        self._outcomes: list[Outcome] = [outcome(column) for column in columns]
        signs, rows = np.array(problem.signs), [[m.value for m in row] for row in seen.scores]
        kept = most_telling(signs * np.array(rows))
        points, numbers = self._inputs([seen.points[index] for index in kept])
        scored = [
            Observations(points, numbers, *scale.latent([column[index] for index in kept]))
            for scale, column in zip(self._outcomes, columns, strict=True)
        ]
        self.data = [
            self._extended(one, seen.failed[-MOST_OBSERVATIONS:], _worst(one, sign), _FAILED_NOISE)
            for one, sign in zip(scored, problem.signs, strict=True)
        ]

    def condition(self, thetas: Sequence[Array]) -> None:
        """Conditions the processes on the scores, and on pending points as if these scored their means."""
        self._processes = [GaussianProcess(*pair) for pair in zip(self.data, thetas, strict=True)]
        if pending := self._seen.pending:
            means = [values for values, _ in self._predict(pending)]
            data = [self._extended(one, pending, own) for one, own in zip(self.data, means, strict=True)]
            self._processes = [GaussianProcess(*pair) for pair in zip(data, thetas, strict=True)]

    def _extended(
        self, data: Observations, more: Sequence[Coordinates], values: Array | float, noise: float = 0.0
    ) -> Observations:
        """Observations and further points with these values, as if they had been scored."""
        if not more:
            return data
        points, kinds = self._inputs(more)
        return Observations(
            np.vstack([data.points, points]),
            np.concatenate([data.kinds, kinds]),
            np.concatenate([data.values, np.broadcast_to(values, len(more))]),
            np.concatenate([data.noise, np.full(len(more), noise)]),
        )

    @cached_property
    def means(self) -> Array:
        """The losses of the posterior means of the scored points, shape (points, objectives)."""
        return self.losses(self._seen.points, np.zeros(1))[:, 0]

    @cached_property
    def good(self) -> list[Coordinates]:
        """The points to step from: the front by posterior means, or the best few of one number."""
        inside = self._inside
        if self.single:
            values = np.where(inside, self.value(self.means), np.inf)
            order = np.argsort(values, kind="stable")[:_ELITES]
            return [self._seen.points[index] for index in order]
        front = np.flatnonzero(inside)[pareto.front(self.means[inside])]
        return [self._seen.points[index] for index in front]

    def worth(self, points: Sequence[Coordinates]) -> Array:
        """The expected gain of each point times the share of a score's surprise that is not noise.

        Augmented expected improvement (Huang et al. 2006), shape (points,). By the gain alone, noise makes a
        search score variants of the best recipe for ever.
        """
        predicted = self._predict(points)
        gain = self._gain(predicted)
        if not gain.any():  # nothing is within the bounds, nor likely to be
            gain = self._chance_within(predicted)
        return gain * self._news(predicted) * ~self._near_known(points)

    def gain(self, points: Sequence[Coordinates]) -> Array:
        """The expected gain of each point: of hypervolume or, of a single number, of its value."""
        return self._gain(self._predict(points))

    def _gain(self, predicted: Predicted) -> Array:
        if self.single:
            values = self.value(self.means[self._inside])
            # If no point is within all bounds, any point within them is a gain.
            best = float(values.min() if self._within.any() else values.max())
            losses = self._losses(predicted, quantiles(_DRAWS) if self.count == 1 else self._normals)
            return expected_gain(losses, best, self.value, self._bounds)
        front = self.means[self._inside if self._within.any() else np.zeros(len(self.means), bool)]
        losses = self._losses(predicted, quantiles(_QUANTILES))
        return expected_volume(losses, front, self._reference, self._bounds)

    def _news(self, predicted: Predicted) -> Array:
        """The largest share of all objectives."""
        pairs = zip(self._processes, predicted, strict=True)
        shares = [1.0 - p.noise / np.sqrt(deviations**2 + p.noise**2) for p, (_, deviations) in pairs]
        return np.asarray(np.max(shares, axis=0))

    def _near_known(self, points: Sequence[Coordinates]) -> NDArray[np.bool_]:
        """Whether a scored, pending or failed recipe of the same kind is so near that a score is no news."""
        from scipy.spatial.distance import cdist

        known, kinds = self._occupied
        own, own_kinds = self._inputs(points)
        near = (cdist(own, known, "chebyshev") < _SAME) & (own_kinds[:, None] == kinds[None])
        return np.asarray(near.any(axis=1))

    @cached_property
    def _occupied(self) -> tuple[Array, Kinds]:
        return self._inputs([*self._seen.points, *self._seen.pending, *self._seen.failed])

    def _chance_within(self, predicted: Predicted) -> Array:
        """The probability to be within all bounds."""
        from scipy.special import ndtr

        found = np.ones(len(predicted[0][0]))
        for number, (bound, (means, deviations)) in enumerate(zip(self._bounds, predicted, strict=True)):
            if bound is not None:
                sign = self._problem.signs[number]
                limit = self._outcomes[number].latent([Measurement(sign * bound, None)])[0][0]
                found *= ndtr(sign * (limit - means) / deviations)
        return found

    @cached_property
    def scale(self) -> float:
        """What gains are measured in: the hypervolume of the front or, of a single number, 1."""
        if self.single:
            return 1.0
        return pareto.hypervolume(self.means[self._inside], self._reference) or 1.0

    @property
    def count(self) -> int:
        """The number of objectives."""
        return len(self._problem.signs)

    @property
    def single(self) -> bool:
        """Whether the search minimises a single number."""
        return self.count == 1 or self._problem.scalarize is not None

    def value(self, losses: Array) -> Array:
        """The single number that is minimised, from losses along the last axis."""
        plan = self._problem.scalarize
        return np.asarray(losses[..., 0] if plan is None else -scalarized(plan, self._problem.signs, losses))

    @cached_property
    def _bounds(self) -> list[float | None]:
        return list(self._problem.bounds())

    @cached_property
    def _within(self) -> NDArray[np.bool_]:
        return self.within(self.means)

    def within(self, losses: Array) -> NDArray[np.bool_]:
        """Whether each row of losses is within all bounds."""
        found = np.ones(len(losses), bool)
        for objective, bound in enumerate(self._bounds):
            if bound is not None:
                found &= losses[:, objective] <= bound
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

    def losses(self, points: Sequence[Coordinates], normals: Array) -> Array:
        """Losses at standard normal deviates, shape (points, deviates, objectives)."""
        return self._losses(self._predict(points), normals)

    def _predict(self, points: Sequence[Coordinates]) -> Predicted:
        inputs = self._inputs(points)
        return [process.predict(*inputs) for process in self._processes]

    def _losses(self, predicted: Predicted, normals: Array) -> Array:
        found = []
        for number, (means, deviations) in enumerate(predicted):
            own = normals if normals.ndim == 1 else normals[:, number]
            latent = means[:, None] + deviations[:, None] * own
            found.append(self._problem.signs[number] * self._outcomes[number].natural(latent))
        return np.stack(found, axis=-1)

    def draws(self, points: Sequence[Coordinates], count: int) -> Array:
        """Joint draws of the losses of some points, shape (count, points, objectives), with a fixed seed."""
        chance, inputs = np.random.default_rng(0), self._inputs(points)
        found = []
        for sign, process, scale in zip(self._problem.signs, self._processes, self._outcomes, strict=True):
            latent = process.draw(*inputs, chance.normal(size=(count, len(points))))
            found.append(sign * scale.natural(latent))
        return np.stack(found, axis=-1)

    def _inputs(self, points: Sequence[Coordinates]) -> tuple[Array, Kinds]:
        numbers = np.array([self._numbers[point.kind] for point in points], dtype=np.int64)
        return features(self._problem.system, points), numbers


def _worst(data: Observations, sign: int) -> float:
    """The worst value on the scale of the process."""
    return float(data.values.max() if sign > 0 else data.values.min())

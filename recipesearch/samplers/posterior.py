"""The posterior of a study: each recipe's values and its probability to be on the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from threadpoolctl import threadpool_limits

from .. import pareto
from ..space.coordinates import Coordinates
from .gaussian_process import first_theta, fit
from .improvement import quantiles
from .merge_model import MergeModel, Seen
from .problem import Problem

Array = NDArray[np.float64]

_STEPS = 40  # of the fit
_QUANTILES, _DRAWS = 16, 256
_FEWEST = 4  # recipes that a model needs
_MOST = 200  # recipes that may be on the front
_OPTIMISM = 2.0  # standard deviations


@dataclass(frozen=True)
class Standing:
    """The posterior of one recipe: the mean and standard deviation of each objective's value, without noise.

    ``front`` is the probability that the recipe is on the front of the study's recipes; of a single number,
    that it is the best.
    """

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    front: float


@dataclass(frozen=True)
class Posterior:
    """The posterior of all recipes of a study, given their scores.

    - ``standings``: of each scored recipe, by digest.
    - ``effects``: the change of each objective's value, by place and parent, if the front's knee took the
      place from this parent alone.
    """

    standings: Mapping[str, Standing]
    effects: Mapping[str, Mapping[str, Sequence[float]]]


def posterior(study: Study, problem: Problem) -> Posterior | None:
    """The posterior of a study; None for fewer than four recipes. The draws have a fixed seed."""
    seen = Seen.of(study, problem)
    if seen.own < _FEWEST:
        return None
    with threadpool_limits(limits=1, user_api="blas"):
        model = MergeModel(problem, seen)
        model.condition([fit(data, first_theta(data), _STEPS) for data in model.data])
        points = seen.points[: seen.own]
        losses = model.losses(points, quantiles(_QUANTILES))
        means, deviations = losses.mean(axis=1), losses.std(axis=1)
        contenders = _contenders(means, deviations)
        chances = np.zeros(len(points))
        chances[contenders] = _on_front(model, model.draws([points[i] for i in contenders], _DRAWS))
        effects = _effects(model, problem, points[_knee(model, means)])
    values = np.array(problem.signs) * means
    rows = zip(seen.recipes, values, deviations, chances, strict=False)
    return Posterior({recipe: Standing(tuple(v), tuple(d), float(p)) for recipe, v, d, p in rows}, effects)


def _knee(model: MergeModel, means: Array) -> int:
    """The best compromise among the points within all bounds, or among all; of a single number, the best."""
    inside = np.flatnonzero(model.within(means))
    chosen = inside if len(inside) else np.arange(len(means))
    place = model.value(means[chosen]).argmin() if model.single else pareto.knee(means[chosen])
    return int(chosen[place])


def _effects(model: MergeModel, problem: Problem, knee: Coordinates) -> dict[str, dict[str, list[float]]]:
    system, middle = problem.system, np.zeros(1)
    moved = []
    for place in range(len(system.places)):
        for parent in range(len(system.names)):
            shares = knee.shares.copy()
            shares[place] = np.eye(len(system.names))[parent]
            moved.append(system.canonical(replace(knee, shares=shares)))
    before = model.losses([knee], middle)[0, 0]
    after = model.losses(moved, middle)[:, 0]
    changes = iter((np.array(problem.signs) * (after - before)).tolist())
    return {place: {name: next(changes) for name in system.names} for place in system.places}


def _contenders(means: Array, deviations: Array) -> NDArray[np.int64]:
    """The points that would be on the front of the means if they were better by two standard deviations."""
    front = means[pareto.front(means)]
    at_best = means - _OPTIMISM * deviations
    beaten = np.any(np.all(front[None] <= at_best[:, None], axis=2), axis=1)
    lag = (at_best[:, None] - front[None]).max(axis=2).min(axis=1)
    order = np.argsort(np.where(beaten, np.inf, lag), kind="stable")
    return order[: min(_MOST, int((~beaten).sum()))]


def _on_front(model: MergeModel, draws: Array) -> Array:
    """The share of the draws in which each point is on the front, from losses (draws, points, objectives)."""
    counts = np.zeros(draws.shape[1])
    for losses in draws:
        inside = model.within(losses)
        chosen = np.flatnonzero(inside if inside.any() else np.ones(len(losses), bool))
        if model.single:
            counts[chosen[model.value(losses[chosen]).argmin()]] += 1
        else:
            counts[chosen[pareto.front(losses[chosen])]] += 1
    return counts / len(draws)

"""The training data of a model-based sampler: coordinates, objectives, and scores from the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from ..plan import ScalarizePlan
from ..samplers.marks import RECIPE
from ..samplers.problem import Problem, Scores
from ..score import Goal, Metrics
from ..space.coordinates import Coordinates, CoordinateSystem
from ..space.projection import Projection
from ..space.weights import WeightSpace
from .bounds import violation
from .known import Record, restore
from .ledger import Ledger


class TrainingData:
    """Points and scores of a study's trials. Both are read once for each recipe and kept."""

    def __init__(self, space: WeightSpace, ledger: Ledger, goals: Sequence[Goal], recorded: Record) -> None:
        self._space, self._ledger, self._goals = space, ledger, goals
        self.system = CoordinateSystem(space)
        self._projection = Projection(self.system)
        self._tasks = [goal.hash for goal in goals]
        self._points: dict[str, Coordinates] = {}
        self._known = restore(ledger, self._projection, recorded)
        self._scores: dict[str, dict[str, Metrics]] = ledger.all_metrics(self._tasks)

    def problem(
        self,
        parents: Sequence[Sequence[float]],
        repeated: Callable[[Mapping[str, Any]], bool],
        scalarize: ScalarizePlan | None,
    ) -> Problem:
        """The problem. ``parents`` are the parents' own values, which may grow; bounds may depend on them."""
        return Problem(
            system=self.system,
            point=self._point,
            signs=tuple(goal.sign for goal in self._goals),
            bounds=lambda: [_most(goal, [own[i] for own in parents]) for i, goal in enumerate(self._goals)],
            scores=self._of,
            repeated=repeated,
            scalarize=scalarize,
            known=self._known,
        )

    def forget(self, digest: str) -> None:
        """Reads a recipe's scores again at the next use, because the ledger has further ones."""
        self._scores.pop(digest, None)

    def _point(self, trial: FrozenTrial) -> Coordinates:
        digest = trial.user_attrs[RECIPE]
        if digest not in self._points:
            point = self._projection.of(self._space.express(trial.params))
            assert point is not None, "a recipe of the space itself has coordinates"
            self._points[digest] = point
        return self._points[digest]

    def _of(self, trial: FrozenTrial) -> Scores | None:
        digest = trial.user_attrs.get(RECIPE)
        if digest is None:
            return None
        if not set(self._tasks) <= self._scores.get(digest, {}).keys():
            self._scores[digest] = self._ledger.metrics(digest, self._tasks)
        metrics = self._scores[digest]
        return [goal.of(metrics) for goal in self._goals] if set(self._tasks) <= metrics.keys() else None


def _most(goal: Goal, parents: Sequence[float]) -> float | None:
    """The greatest loss within a goal's bound."""
    missed = violation(goal, 0.0, parents)
    return None if missed is None else -missed

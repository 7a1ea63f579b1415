"""The ends of trials: values and constraints of the scored ones, causes of the failed ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from ..plan import ScalarizePlan
from ..samplers.marks import SEED
from ..samplers.problem import scalarized
from ..score import Goal
from ..space.seeds import parent_label
from .bounds import violation
from .ledger import Ledger
from .results import CAUSE


class TrialEnds:
    """Ends the trials of one study with the ledger's values of its goals.

    ``parents`` are the values of the parents alone, for each parent scored so far. Bounds may depend on them.
    """

    def __init__(
        self,
        study: optuna.Study,
        ledger: Ledger,
        goals: Sequence[Goal],
        scalarize: ScalarizePlan | None,
        parents: Collection[str],
    ) -> None:
        self._study, self._ledger, self._goals, self._scalarize = study, ledger, goals, scalarize
        self._tasks = [goal.hash for goal in goals]
        self._alone = {parent_label(name) for name in parents}
        self.parents: list[Sequence[float]] = []

    def is_parent(self, trial: Trial | FrozenTrial) -> bool:
        """Whether a trial is the seed that is one parent alone."""
        return trial.user_attrs.get(SEED) in self._alone

    def values(self, digest: str) -> list[float]:
        """The objectives' values of a scored recipe."""
        metrics = self._ledger.metrics(digest, self._tasks)
        return [goal.of(metrics).value for goal in self._goals]

    def note_parent(self, trial: Trial | FrozenTrial, values: Sequence[float]) -> None:
        """Keeps the values of a parent alone; other trials are ignored."""
        if self.is_parent(trial):
            self.parents.append(list(values))

    def complete(self, trial: Trial, values: Sequence[float]) -> None:
        """Completes a trial with its values, and with the distances by which they miss the bounds."""
        for goal, value, *parents in zip(self._goals, values, *self.parents, strict=True):
            missed = violation(goal, value, parents)
            if missed is not None:
                trial.set_constraint(goal.name, missed)
        self._study.tell(trial.number, values if self._scalarize is None else self._as_one(values))

    def fail(self, trial: Trial, cause: str) -> None:
        """Ends a trial without a score, and stores the cause with the trial."""
        trial.set_user_attr(CAUSE, cause)
        self._study.tell(trial.number, state=TrialState.FAIL)

    def _as_one(self, values: Sequence[float]) -> float:
        """The single value that a scalarised study maximises."""
        assert self._scalarize is not None
        signs = [goal.sign for goal in self._goals]
        return float(scalarized(self._scalarize, signs, np.array(signs) * np.array(values)))

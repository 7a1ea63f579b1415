"""Study: ask, commit, tell. Optuna proposes recipes; the ledger stores their scores.

For each trial the scores are committed to the ledger before Optuna completes the trial. If a kill interrupts
a trial, the next run completes it from the ledger or scores its recipe again under the same number: a RUNNING
trial keeps its genes and its generation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from ..errors import SpaceUsedUp
from ..plan import Plan, ScalarizePlan
from ..recipe import Recipe
from ..recipe.mergekit_yaml import to_yaml
from ..samplers.fit import SAMPLERS
from ..samplers.marks import RECIPE, SEED
from ..samplers.per_trial import Known, PerTrialSampler
from ..samplers.posterior import posterior
from ..samplers.problem import scalarized
from ..score import Goal, Metrics, Part, Seconds, TaskScore
from ..space.kinds import Space
from ..space.seeds import Labelled, parent_label, start
from ..space.weights import WeightSpace
from .bounds import violation
from .budget import Budget
from .creation import create_or_open
from .identity import Identity
from .ledger import Ledger
from .results import (
    CAUSE,
    HELD_OUT,
    IDENTITY,
    KNOWN,
    Results,
    conditions_of,
    read_results,
)
from .standings import store_posterior
from .storage import Database
from .training_data import TrainingData

_REPEATS_IN_A_ROW = 200
_SURE = 0.1  # a chance to be on the front below this number, or above 1 minus it, is no longer in doubt


@dataclass(frozen=True)
class Candidate:
    """A recipe waiting for its score on a part of each task's items (None: all), and its trial."""

    trial: Trial
    recipe: Recipe
    part: Part | None = None

    @property
    def number(self) -> int:
        """The trial's number within the study."""
        return self.trial.number


class Study:
    """A persistent study, created by its first run and resumed by later runs. Use ``Study.open``."""

    def __init__(
        self, plan: Plan, space: Space, study: optuna.Study, ledger: Ledger, goals: Sequence[Goal]
    ) -> None:
        self._plan, self._space, self._study, self.ledger = plan, space, study, ledger
        identity = study.user_attrs[IDENTITY]
        self.goals, self.sampler = goals, str(identity["search"]["sampler"])
        self._budget = Budget(plan.search, goals, ledger)
        self._tasks = [goal.hash for goal in self.goals]
        self._known: dict[str, Metrics | None] = {}  # recipes scored or failed (None), by digest
        self._asked: set[str] = set()  # recipes handed out by this process
        self._scored = 0
        self._interrupted: list[FrozenTrial] = []
        self._alone = {parent_label(name) for name in space.pool.parents}
        self._parents: list[Sequence[float]] = []  # the parents' own values
        self._load()
        self._data = self._training_data()
        self._problem = (
            self._data.problem(self._parents, self._is_repeat, self._scalarize) if self._data else None
        )
        study.sampler = PerTrialSampler(
            self.sampler,
            plan.search,
            space.genes,
            start(space),
            Known(self._is_repeat, space.active),
            self._problem,
            **({"era": plan.era} if plan.era and plan.evolves else {}),
        )

    def _training_data(self) -> TrainingData | None:
        """The data of a model-based sampler; None for other samplers."""
        if not SAMPLERS[self.sampler].coordinates:
            return None
        assert isinstance(self._space, WeightSpace), "checked by samplers.fit"
        return TrainingData(self._space, self.ledger, self.goals, self._study.user_attrs.get(KNOWN, {}))

    @classmethod
    def open(
        cls,
        plan: Plan,
        space: Space,
        identity: Identity,
        goals: Sequence[Goal],
        database: Database,
        more_seeds: Sequence[Labelled] = (),
    ) -> Self:
        """Creates the plan's study, or opens the stored one.

        ``goals`` are the objectives as a started worker reports them. ``more_seeds`` follow the space's own
        seeds. Seeds are used only when the study is created. Raises PlanError if the stored study differs
        from the plan.
        """
        ledger = Ledger(database, conditions_of(identity))
        study = create_or_open(plan, space, identity, ledger, more_seeds)
        return cls(plan, space, study, ledger, goals)

    # -- the loop

    @property
    def scored(self) -> int:
        """The number of distinct scored recipes of this study."""
        return self._scored

    def ask(self) -> Candidate | None:
        """The next recipe to score; None once the budget is spent.

        Interrupted trials come first. Repeats of scored recipes are completed from the ledger. Raises
        SpaceUsedUp if the sampler proposes only repeats.
        """
        repeats = 0
        while repeats < _REPEATS_IN_A_ROW:
            before = self._scored
            trial = self._next_trial()
            if trial is None:
                return None
            recipe = self._space.express(self._genome(trial))
            if trial.user_attrs.get(RECIPE) != recipe.digest:
                trial.set_user_attr(RECIPE, recipe.digest)
            if not self._answered(trial, recipe.digest):
                self._asked.add(recipe.digest)
                return Candidate(trial, recipe, self._budget.part)
            # A recipe that only another study in the database has scored counts as new.
            repeats = 0 if self._scored > before else repeats + 1
        raise SpaceUsedUp(
            f"the last {_REPEATS_IN_A_ROW} proposed recipes were all known already: the space seems used up "
            f"after {self._scored} recipes; lower search.trials, or widen the space under a new name"
        )

    def tell(self, candidate: Candidate, scores: Sequence[TaskScore], seconds: Seconds) -> None:
        """Commits a candidate's scores to the ledger, then completes its trial with the ledger's values."""
        digest = candidate.recipe.digest
        self.commit(candidate.recipe, scores, seconds)
        self._complete(candidate.trial, digest, self.ledger.metrics(digest, self._tasks))

    def commit(self, recipe: Recipe, scores: Sequence[TaskScore], seconds: Seconds) -> None:
        """Commits a recipe's scores, for instance held-out ones, to the ledger only."""
        text = to_yaml(recipe, lambda parent: parent.reference, {})
        self.ledger.commit(recipe.digest, text, scores, seconds)
        if self._data:
            self._data.forget(recipe.digest)

    def next_in_doubt(self, without: Collection[str] = ()) -> tuple[Recipe, Part] | None:
        """The recipe whose place on the front is most in doubt, with the items to score next.

        None at the end; the posterior is then stored. Recipes of the digests ``without`` are left out. Only a
        model-based search has a posterior.
        """
        found = posterior(self._study, self._problem) if self._problem else None
        if found is None:
            return None
        doubts = {recipe: abs(one.front - 0.5) for recipe, one in found.standings.items()}
        in_doubt = [recipe for recipe in doubts.keys() - set(without) if doubts[recipe] < 0.5 - _SURE]
        if self._budget.may_settle(doubts):
            rows = {row.recipe: row for row in self.results().scored}
            for recipe in sorted(in_doubt, key=lambda recipe: (doubts[recipe], recipe)):
                if part := self._budget.next_part(recipe):
                    return self._space.express(rows[recipe].genome), part
        store_posterior(self._study, found)
        return None

    def results(self) -> Results:
        """The results of all trials so far."""
        return read_results(self._study, self.ledger)

    def hold_out(self, goals: Sequence[Goal]) -> None:
        """Stores the held-out tasks' hashes, in the objectives' order."""
        self._study.set_user_attr(HELD_OUT, [goal.hash for goal in goals])

    def fail(self, candidate: Candidate, cause: str) -> None:
        """Ends a candidate's trial without a score, and stores the cause with the trial."""
        self._known[candidate.recipe.digest] = None
        self._fail(candidate.trial, cause)

    # -- interrupted and new trials

    def _next_trial(self) -> Trial | None:
        if self._interrupted:
            return Trial(self._study, self._interrupted.pop(0)._trial_id)
        return None if self._budget.reached(self._scored) else self._study.ask()

    def _genome(self, trial: Trial) -> dict[str, Any]:
        """Asks for every gene. A resumed trial keeps the genes that it already has."""
        genome: dict[str, Any] = {}
        for name, gene in self._space.genes.items():
            if isinstance(gene, FloatDistribution):
                genome[name] = trial.suggest_float(name, gene.low, gene.high, log=gene.log)
            elif isinstance(gene, CategoricalDistribution):
                genome[name] = trial.suggest_categorical(name, gene.choices)
        # Reading this assigns a generation to a fully fixed trial (a seed); without one it is never a parent.
        _ = trial.relative_params
        return genome

    def _answered(self, trial: Trial, digest: str) -> bool:
        """Ends the trial of a known recipe; False if the recipe has to be scored."""
        if digest in self._known and self._known[digest] is None:
            self._fail(trial, "repeat of a recipe that failed")
            return True
        if not self._budget.suffices(digest):
            return False
        self._complete(trial, digest, self.ledger.metrics(digest, self._tasks))
        return True

    # -- ending trials

    def _complete(self, trial: Trial, digest: str, metrics: Mapping[str, Metrics]) -> None:
        values = self._values(metrics)
        self._note_parent(trial, values)
        for goal, value, *parents in zip(self.goals, values, *self._parents, strict=True):
            missed = violation(goal, value, parents)
            if missed is not None:
                trial.set_constraint(goal.name, missed)
        self._study.tell(trial.number, values if self._scalarize is None else self._as_one(values))
        self._count(digest)

    def _as_one(self, values: Sequence[float]) -> float:
        """The single value that a scalarised study maximises."""
        assert self._scalarize is not None
        signs = [goal.sign for goal in self.goals]
        return float(scalarized(self._scalarize, signs, np.array(signs) * np.array(values)))

    def _values(self, metrics: Mapping[str, Metrics]) -> list[float]:
        return [goal.of(metrics).value for goal in self.goals]

    def _note_parent(self, trial: Trial | FrozenTrial, values: Sequence[float]) -> None:
        """Keeps a parent's values for bounds relative to the parents, which are scored first."""
        if trial.user_attrs.get(SEED) in self._alone:
            self._parents.append(list(values))

    def _fail(self, trial: Trial, cause: str) -> None:
        trial.set_user_attr(CAUSE, cause)
        self._study.tell(trial.number, state=TrialState.FAIL)

    def _count(self, digest: str) -> None:
        if digest not in self._known:
            self._known[digest] = {}
            self._scored += 1
            self._budget.add([digest])

    def _is_repeat(self, genome: Mapping[str, Any]) -> bool:
        digest = self._space.express(genome).digest
        return digest in self._known or digest in self._asked

    @property
    def _scalarize(self) -> ScalarizePlan | None:
        return self._plan.search.scalarize

    def _load(self) -> None:
        """Reads the scored and failed recipes and the interrupted trials of earlier runs."""
        for trial in self._study.get_trials(deepcopy=False):
            digest = trial.user_attrs.get(RECIPE)
            if trial.state == TrialState.RUNNING:
                self._interrupted.append(trial)
            elif trial.state == TrialState.COMPLETE and digest:
                self._known.setdefault(digest, {})
                if trial.user_attrs.get(SEED) in self._alone:
                    metrics = self.ledger.metrics(digest, self._tasks)
                    self._note_parent(trial, self._values(metrics))
            elif trial.state == TrialState.FAIL and digest:
                self._known.setdefault(digest, None)
        scored = [digest for digest, metrics in self._known.items() if metrics is not None]
        self._scored = len(scored)
        self._budget.add(scored)

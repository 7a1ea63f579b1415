"""Study: ask, commit, tell. Optuna proposes recipes; the ledger stores their scores.

Several recipes may be asked for before the first one is told: they are *in flight*, and count for the budget
and as repeats. For each trial the scores are committed to the ledger before Optuna completes the trial. If a
kill interrupts trials, the next run completes them from the ledger or scores their recipes again under the
same numbers: a RUNNING trial keeps its genes and its generation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from ..errors import SpaceUsedUp
from ..plan import Plan
from ..recipe import Recipe
from ..recipe.mergekit_yaml import to_yaml
from ..samplers.fit import SAMPLERS
from ..samplers.marks import RECIPE
from ..samplers.per_trial import Known, PerTrialSampler
from ..samplers.posterior import Posterior, posterior
from ..score import Goal, Part, Seconds, TaskScore
from ..space.kinds import Space
from ..space.seeds import Labelled, start
from ..space.weights import WeightSpace
from .budget import Budget
from .creation import create_or_open
from .identity import Identity
from .ledger import Ledger
from .results import (
    HELD_OUT,
    IDENTITY,
    KNOWN,
    Results,
    conditions_of,
    read_results,
)
from .standings import doubtful, store_posterior
from .storage import Database
from .training_data import TrainingData
from .trial_ends import TrialEnds
from .trial_storage import TrialStorage

_REPEATS_IN_A_ROW = 200


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
        assert isinstance(study._storage, TrialStorage)
        self._trials = study._storage
        self.goals, self.sampler = goals, str(identity["search"]["sampler"])
        self._budget = Budget(plan.search, goals, ledger)
        self._ended: dict[str, bool] = {}  # whether a recipe was scored or failed, by digest
        self._flying: dict[str, list[Trial]] = {}  # the trials of each recipe that is being scored
        self._scored = 0
        self._interrupted: list[FrozenTrial] = []
        self._found: Posterior | None = None  # the last posterior
        self._held: list[str] = []  # scored recipes in flight whose trials wait for the parents' values
        self._awaited: set[int] = set()  # the trials whose values others wait for
        self._ends = TrialEnds(study, ledger, goals, plan.search.scalarize, list(space.pool.parents))
        self._load()
        self._data = self._training_data()
        self._problem = (
            self._data.problem(self._ends.parents, self._is_repeat, plan.search.scalarize)
            if self._data
            else None
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
                if len(self._held) == len(self._flying):  # no parent is left that they could wait for
                    self._awaited.clear()
                    self._release(())
                return None
            recipe = self._space.express(self._genome(trial))
            if trial.user_attrs.get(RECIPE) != recipe.digest:
                trial.set_user_attr(RECIPE, recipe.digest)
            self._trials.save(trial.number)  # a trial that stays in memory would leave a gap in the numbers
            if not self._answered(trial, recipe.digest):
                self._flying[recipe.digest] = [trial]
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
        self._held.append(digest)
        self._release(self._flying[digest])

    def fail(self, candidate: Candidate, cause: str) -> None:
        """Ends a candidate's trial without a score, and stores the cause with the trial."""
        digest = candidate.recipe.digest
        self._ended[digest] = False
        trials = self._flying.pop(digest)
        for trial in trials:
            self._ends.fail(trial, cause)
        self._release(trials)

    def commit(self, recipe: Recipe, scores: Sequence[TaskScore], seconds: Seconds) -> None:
        """Commits a recipe's scores, for instance held-out ones, to the ledger only."""
        text = to_yaml(recipe, lambda parent: parent.reference, {})
        self.ledger.commit(recipe.digest, text, scores, seconds)
        if self._data:
            self._data.forget(recipe.digest)

    def next_in_doubt(
        self, without: Collection[str] = (), pending: Collection[Part] = ()
    ) -> tuple[Recipe, Part] | None:
        """The recipe whose place on the front is most in doubt, and the items to score next; None at the end.

        Recipes of the digests ``without`` are left out. ``pending`` are the parts that are being scored. Only
        a model-based search has a posterior.
        """
        found = self._found = posterior(self._study, self._problem) if self._problem else None
        if found is None:
            return None
        left = self._budget.may_settle(found.standings, pending)
        rows = {row.recipe: row for row in self.results().scored} if left else {}
        for recipe in doubtful(found, without) if left else ():
            if part := self._budget.next_part(recipe):
                return self._space.express(rows[recipe].genome), part
        return None

    def settled(self) -> None:
        """Stores the posterior of the last ``next_in_doubt``, which ends a model-based search."""
        if self._found is not None:
            store_posterior(self._study, self._found)

    def results(self) -> Results:
        """The results of all trials so far."""
        return read_results(self._study, self.ledger)

    def hold_out(self, goals: Sequence[Goal]) -> None:
        """Stores the held-out tasks' hashes, in the objectives' order."""
        self._study.set_user_attr(HELD_OUT, [goal.hash for goal in goals])

    # -- interrupted and new trials

    def _next_trial(self) -> Trial | None:
        if self._interrupted:
            return Trial(self._study, self._interrupted.pop(0)._trial_id)
        return None if self._budget.reached(self._scored, len(self._flying)) else self._study.ask()

    def _genome(self, trial: Trial) -> dict[str, Any]:
        """Asks for every gene. A resumed trial keeps its genes, and its place in a sampler's generations."""
        if trial.params.keys() >= self._space.genes.keys():
            return dict(trial.params)
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
        """Ends the trial of a known recipe, now or once the recipe is scored; False for any other recipe."""
        if digest in self._flying:
            self._flying[digest].append(trial)
        elif self._ended.get(digest) is False:
            self._ends.fail(trial, "repeat of a recipe that failed")
        elif self._budget.suffices(digest):
            self._flying[digest] = [trial]
            self._held.append(digest)
            self._release([trial])
        else:
            return False
        return True

    # -- ending trials

    def _release(self, ended: Sequence[Trial]) -> None:
        """Completes the trials of scored recipes, unless they wait for the parents' values.

        Bounds may be relative to the parents, so all parents alone are scored before any trial is completed.
        """
        self._awaited -= {trial.number for trial in ended}
        if self._awaited:
            return
        values = {digest: self._ends.values(digest) for digest in self._held}
        done = [(trial, values[digest]) for digest in self._held for trial in self._flying[digest]]
        for end in (self._ends.note_parent, self._ends.complete):
            for trial, found in done:
                end(trial, found)
        for digest in self._held:
            del self._flying[digest]
            self._count(digest)
        self._held.clear()

    def _count(self, digest: str) -> None:
        if digest not in self._ended:
            self._ended[digest] = True
            self._scored += 1
            self._budget.add([digest])

    def _is_repeat(self, genome: Mapping[str, Any]) -> bool:
        digest = self._space.express(genome).digest
        return digest in self._ended or digest in self._flying

    def _load(self) -> None:
        """Reads the scored and failed recipes and the interrupted trials of earlier runs."""
        relative = any(goal.within is not None for goal in self.goals)
        for trial in self._study.get_trials(deepcopy=False):
            digest, parent = trial.user_attrs.get(RECIPE), self._ends.is_parent(trial)
            if trial.state == TrialState.RUNNING:
                self._interrupted.append(trial)
            if relative and parent and not trial.state.is_finished():
                self._awaited.add(trial.number)
            if trial.state.is_finished() and digest:
                self._ended.setdefault(digest, trial.state == TrialState.COMPLETE)
                if parent and trial.state == TrialState.COMPLETE:
                    self._ends.note_parent(trial, self._ends.values(digest))
        scored = [digest for digest, was_scored in self._ended.items() if was_scored]
        self._scored = len(scored)
        self._budget.add(scored)

"""From a winner to a mutant: mining, training, gate, database. An interrupted run is continued."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random
from typing import Self

from ..checking.mutations import require_mutable
from ..errors import MachineFault, StudyError, TrialFailed
from ..files import remove_folder
from ..parents.identify import adapted
from ..plan import MutationPlan, Plan
from ..recipe import Parent, Recipe, Slice, Source
from ..recipe.mergekit_yaml import to_yaml
from ..score import Seconds, TaskScore
from ..scoring.preferences import Preferences, Wanted, items_digest
from ..study.ledger import Ledger
from ..study.mutants import Mutant, Mutants
from ..study.storage import Database
from ..workers.order import OpenWorker, Scoring, WorkerOrder
from ..workers.worker_pool import WorkerPool, open_pool
from .gate import Answers, Verdict, judge
from .training_order import LINEAGE, Trained, TrainingOrder, mutant_key

Train = Callable[[TrainingOrder], Trained]


@dataclass(frozen=True)
class Elite:
    """The source of a mutation: a recipe as a parent, the trial that found it, and the rule that chose it."""

    parent: Parent
    trial: int | None
    rule: str

    @classmethod
    def of(cls, recipe: Recipe, trial: int, rule: str) -> Self:
        """A trial's recipe as an elite."""
        return cls(Parent(recipe.digest, recipe), trial, rule)


@dataclass(frozen=True)
class Mutation:
    """A planned mutation: its source, settings, seed and key."""

    elite: Elite
    plan: MutationPlan
    seed: int
    key: str


@dataclass(frozen=True)
class Bred:
    """A finished mutation: its source, the new parent, and its database row."""

    elite: Elite
    parent: Parent
    mutant: Mutant


@dataclass(frozen=True)
class Means:
    """The means of breeding: the database, and the functions that start workers and trainings."""

    database: Database
    open_worker: OpenWorker
    train: Train


class Breeder:
    """Makes the mutants of one study's winners."""

    def __init__(self, plan: Plan, means: Means) -> None:
        self._plan, self.means = plan, means
        self.mutants = Mutants(means.database)

    def mutation(self, elite: Elite, plan: MutationPlan, attempt: int = 0) -> Mutation:
        """The mutation of an elite. Its seed follows from the plan's seed, the elite and the attempt.

        Raises PlanError as ``require_mutable``.
        """
        require_mutable(self._plan)
        variant = elite.rule if elite.trial is None else ""
        chance = Random(f"{self._plan.search.seed}/{elite.parent.digest}/mutation{variant}{attempt or ''}")
        seed = chance.getrandbits(31)
        return Mutation(elite, plan, seed, self._key(elite.parent, plan, seed))

    def is_trained(self, mutation: Mutation) -> bool:
        """Whether the mutation's adapter exists, so that no pairs have to be mined."""
        return self._folder(mutation).exists()

    def wanted(self, mutation: Mutation) -> Wanted:
        """The requirements on a mutation's pairs. Mutations with equal requirements get equal pairs."""
        plan, dpo = mutation.plan, mutation.plan.kind == "dpo"
        stated = plan.chosen == "reference"
        samples = plan.samples if dpo or not stated else 1  # SFT on references needs no samples
        return Wanted(plan.pairs, samples, plan.temperature, stated, dpo, mutation.seed)

    def mine(self, mutation: Mutation, worker: Scoring) -> Preferences:
        """A mutation's preference pairs. Raises as Worker.mine."""
        recipe = recipes_of(mutation.elite.parent, self._plan.engine.dtype)[0]
        return worker.mine(recipe, self._plan.preferences, self.wanted(mutation))

    def breed(self, mined: Sequence[tuple[Mutation, Preferences | None]]) -> list[Bred]:
        """Trains and judges the mutations that are not trained or judged yet, and returns all mutations.

        Raises StudyError if a training fails; finished trainings are kept.
        """
        parents = {mutation.key: self.trained(mutation, preferences) for mutation, preferences in mined}
        waiting = [m for m, _ in mined if self.judged(m) is None]
        if waiting:
            self._judge(waiting, parents)
        return [Bred(m.elite, parents[m.key], mutant) for m, _ in mined if (mutant := self.judged(m))]

    def judged(self, mutation: Mutation) -> Mutant | None:
        """A mutation's database row; None if it was not judged yet."""
        return self.mutants.get(mutation.key)

    def discard(self, key: str) -> None:
        """Removes a mutation's adapter; its database row stays."""
        remove_folder(self._plan.bred / key)

    def trained(self, mutation: Mutation, preferences: Preferences | None) -> Parent:
        """The new parent of a mutation, before the gate; trains it first if ``preferences`` are given."""
        folder, engine, source = self._folder(mutation), self._plan.engine, mutation.elite.parent
        if preferences is not None and not folder.exists():
            how = (mutation.plan, mutation.seed, engine.dtype, engine.device, engine.threads)
            self.means.train(TrainingOrder(source, self._plan.preference, preferences, *how, folder))
        return adapted(source, folder)

    @cached_property
    def _items(self) -> list[str]:
        """The digests of the preference items; cached, because their files may be large."""
        return [items_digest(spec) for spec in self._plan.preferences]

    def _key(self, source: Parent, plan: MutationPlan, seed: int) -> str:
        return mutant_key(self._plan.whole_name, source, plan, seed, self._items)

    def _folder(self, mutation: Mutation) -> Path:
        return self._plan.bred / mutation.key

    def _judge(self, waiting: Sequence[Mutation], parents: Mapping[str, Parent]) -> None:
        """Scores mutants and sources, and writes each decision to the database."""
        order = self._gate_order(waiting, parents)
        pairs = [(m.elite.parent, parents[m.key]) for m in waiting]
        with open_pool(self.means.open_worker, order) as pool:
            ledger = Ledger(self.means.database, pool.ready.conditions)
            scored = _Scored(pool, ledger, order.engine.dtype, {})
            scored.score([parent for pair in pairs for parent in pair])
        for mutation in waiting:
            verdict = self._verdict(mutation, parents[mutation.key], scored)
            self.mutants.add(self._mutant(mutation, parents[mutation.key], verdict))

    def _gate_order(self, waiting: Sequence[Mutation], parents: Mapping[str, Parent]) -> WorkerOrder:
        """The order for a worker over the mutants and their sources, with the gate's goals."""
        pairs = (parent for m in waiting for parent in (m.elite.parent, parents[m.key]))
        pool = tuple({parent.digest: parent for parent in pairs}.values())
        plan, monitor = self._plan, waiting[0].plan.monitor
        goals = plan.goals_of((*plan.objectives, *monitor))
        return WorkerOrder(f"{plan.name}.gate", plan.engine, pool, pool[0], goals)

    def _verdict(self, mutation: Mutation, mutant: Parent, scored: _Scored) -> Verdict:
        """The gate's decision on a mutant. Raises StudyError if the machine or the source's scoring fails."""
        try:
            before = scored.digest(mutation.elite.parent)
        except TrialFailed as failure:
            raise StudyError(f"the source of a mutant could not be scored: {failure}; run again") from failure
        try:
            answers = scored.answers(before, scored.digest(mutant))
        except MachineFault as fault:
            raise StudyError(f"a mutant could not be judged: {fault}; run again") from fault
        except TrialFailed as failure:  # caused by the mutant itself: reject it and go on
            return Verdict(False, f"failed: {failure}", [])
        return judge(answers, len(self._plan.objectives), mutation.plan)

    def _mutant(self, mutation: Mutation, parent: Parent, verdict: Verdict) -> Mutant:
        trained = json.loads((self._folder(mutation) / LINEAGE).read_text("utf-8"))
        elite, changes = mutation.elite, [asdict(change) for change in verdict.changes]
        record = {**trained, "rule": elite.rule, "changes": changes}
        digests = (elite.parent.digest, parent.digest)
        return Mutant(
            mutation.key, self._plan.name, elite.trial, *digests, verdict.accepted, verdict.reason, record
        )


def recipes_of(parent: Parent, dtype: str) -> list[Recipe]:
    """The recipes equal to a parent: its own recipe, if it is a recipe without adapter, and passthrough."""
    own = [parent.source] if isinstance(parent.source, Recipe) and not parent.adapter else []
    return [*own, Recipe("passthrough", (Slice((Source(parent),)),), parent, dtype=dtype)]


@dataclass(frozen=True)
class _Scored:
    """The scores of unmerged parents: from the ledger, otherwise from the workers.

    ``failures`` are the parents that could not be scored, by digest.
    """

    pool: WorkerPool
    ledger: Ledger
    dtype: str
    failures: dict[str, TrialFailed]

    def score(self, parents: Sequence[Parent]) -> None:
        """Scores each parent that has no scores in the ledger, once."""
        unknown = {parent.digest: parent for parent in parents if self._known(parent) is None}
        jobs = ((parent, partial(_alone, parent, self.dtype)) for parent in unknown.values())
        for parent, done in self.pool.stream(lambda: next(jobs, None)):
            alone = recipes_of(parent, self.dtype)[-1]
            try:
                self.ledger.commit(alone.digest, to_yaml(alone, lambda p: p.reference, {}), *done.result())
            except TrialFailed as failure:
                self.failures[parent.digest] = failure

    def digest(self, parent: Parent) -> str:
        """The digest of a recipe that equals the parent and has scores in the ledger.

        Raises TrialFailed if the parent could not be scored.
        """
        if parent.digest in self.failures:
            raise self.failures[parent.digest]
        known = self._known(parent)
        assert known is not None, "score comes first"
        return known

    def _known(self, parent: Parent) -> str | None:
        recipes = (recipe.digest for recipe in recipes_of(parent, self.dtype))
        return next((one for one in recipes if self.ledger.covers(one, self.pool.ready.goals)), None)

    def answers(self, before: str, after: str) -> list[Answers]:
        """Two recipes' answers for every goal, before and after the mutation."""
        digests, goals = (before, after), self.pool.ready.goals
        metrics = [self.ledger.metrics(digest, self.pool.ready.tasks) for digest in digests]
        found = []
        for goal in goals:
            one, other = (self.ledger.items(digest, goal.hash) for digest in digests)
            values = (goal.of(metrics[0]).value, goal.of(metrics[1]).value)
            found.append(Answers(goal, values, (one, other)))
        return found


def _alone(parent: Parent, dtype: str, worker: Scoring) -> tuple[list[TaskScore], Seconds]:
    return worker.score(recipes_of(parent, dtype)[-1])

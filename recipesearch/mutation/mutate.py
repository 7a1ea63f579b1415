"""From a winner to a mutant: mined, trained, judged, written down. What was cut short is finished."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa

from ..errors import PlanError, StudyError, TrialFailed
from ..files import remove_folder
from ..parents.identify import adapted
from ..plan import MutationPlan, Plan, SpacePlan, WeightsPlan
from ..recipe import Parent, Recipe, Slice, Source
from ..recipe.mergekit_yaml import to_yaml
from ..scoring.preferences import Preferences, Wanted, items_digest
from ..study.ledger import Ledger
from ..study.mutants import Mutant, Mutants
from .gate import Asked, Verdict, judge
from .training_order import LINEAGE, Order, Trained, mutant_key

if TYPE_CHECKING:
    from ..workers.worker import Scoring

NOT_ITS_FAULT = ("hang", "crash", "out of memory")  # but the machine's

OpenWorker = Callable[[Plan, Mapping[str, Parent]], "Scoring"]
Train = Callable[[Order], Trained]


@dataclass(frozen=True)
class Elite:
    """What is to be mutated: a recipe as a parent, the trial that found it, and the rule that chose it."""

    parent: Parent
    trial: int | None
    rule: str

    @classmethod
    def of(cls, recipe: Recipe, trial: int, rule: str) -> Self:
        """The elite that a trial's recipe is."""
        return cls(Parent(recipe.digest, recipe), trial, rule)


@dataclass(frozen=True)
class Mutation:
    """A mutation that is asked for: of whom, how, with which seed, under which key."""

    elite: Elite
    plan: MutationPlan
    seed: int
    key: str


@dataclass(frozen=True)
class Bred:
    """A mutation that is done: the parent that it made, and what is written down of it."""

    elite: Elite
    parent: Parent
    mutant: Mutant


@dataclass(frozen=True)
class Means:
    """What breeding works with: the database, and what starts workers and trainings."""

    engine: sa.Engine
    open_worker: OpenWorker
    train: Train


class Breeder:
    """Makes the mutants of one study's winners."""

    def __init__(self, plan: Plan, means: Means) -> None:
        self._plan, self._means = plan, means
        self.mutants = Mutants(means.engine)

    def mutation(self, elite: Elite, plan: MutationPlan, attempt: int = 0) -> Mutation:
        """What mutating an elite would be; its seed follows from the plan's, the elite and the attempt.

        Raises PlanError as ``require_mutable``.
        """
        require_mutable(self._plan)
        variant = elite.rule if elite.trial is None else ""
        chance = Random(f"{self._plan.search.seed}/{elite.parent.digest}/mutation{variant}{attempt or ''}")
        seed = chance.getrandbits(31)
        return Mutation(elite, plan, seed, self._key(elite.parent, plan, seed))

    def is_trained(self, mutation: Mutation) -> bool:
        """Whether its adapter is there, so that there is nothing to mine."""
        return self._folder(mutation).exists()

    def wanted(self, mutation: Mutation) -> Wanted:
        """What a mutation's pairs have to be like; two that want the same get the same."""
        plan, dpo = mutation.plan, mutation.plan.kind == "dpo"
        stated = plan.chosen == "reference"
        samples = plan.samples if dpo or not stated else 1  # the reference alone needs no other answers
        return Wanted(plan.pairs, samples, plan.temperature, stated, dpo, mutation.seed)

    def mine(self, mutation: Mutation, worker: Scoring) -> Preferences:
        """The pairs that a mutation needs. Errors as Worker.mine."""
        recipe = recipes_of(mutation.elite.parent, self._plan.engine.dtype)[0]
        return worker.mine(recipe, self._plan.preferences, self.wanted(mutation))

    def breed(self, mined: Sequence[tuple[Mutation, Preferences | None]]) -> list[Bred]:
        """Trains what is not trained yet, judges what is not judged yet, and returns all of it.

        Raises StudyError if a training fails; what was done before that is kept.
        """
        parents = {mutation.key: self.trained(mutation, preferences) for mutation, preferences in mined}
        waiting = [m for m, _ in mined if self.judged(m) is None]
        if waiting:
            self._judge(waiting, parents)
        return [Bred(m.elite, parents[m.key], mutant) for m, _ in mined if (mutant := self.judged(m))]

    def judged(self, mutation: Mutation) -> Mutant | None:
        """What was written down of a mutation; None if it was not judged yet."""
        return self.mutants.get(mutation.key)

    def discard(self, key: str) -> None:
        """Removes a mutation's adapter; what was written down of it stays."""
        remove_folder(self._plan.bred / key)

    def trained(self, mutation: Mutation, preferences: Preferences | None) -> Parent:
        """The parent that a mutation makes, not judged; trained first if there are ``preferences``."""
        folder, engine, source = self._folder(mutation), self._plan.engine, mutation.elite.parent
        if preferences is not None and not folder.exists():
            how = (mutation.plan, mutation.seed, engine.dtype, engine.device, engine.threads)
            self._means.train(Order(source, self._plan.preference, preferences, *how, folder))
        return adapted(source, folder)

    @cached_property
    def _items(self) -> list[str]:
        """The digests of the preference items: read once, since their files may be large."""
        return [items_digest(spec) for spec in self._plan.preferences]

    def _key(self, source: Parent, plan: MutationPlan, seed: int) -> str:
        return mutant_key(self._plan.whole_name, source, plan, seed, self._items)

    def _folder(self, mutation: Mutation) -> Path:
        return self._plan.bred / mutation.key

    def _judge(self, waiting: Sequence[Mutation], parents: Mapping[str, Parent]) -> None:
        """Scores what is not scored yet, in one worker, and writes each decision down."""
        pairs = {mutation.key: (mutation.elite.parent, parents[mutation.key]) for mutation in waiting}
        pool = {parent.digest: parent for pair in pairs.values() for parent in pair}
        plan = _judging(self._plan, pool, waiting[0].plan)
        with self._means.open_worker(plan, pool) as worker:
            ledger = Ledger(self._means.engine, worker.ready.conditions)
            for mutation in waiting:
                source, parent = pairs[mutation.key]
                before = _scored(plan, worker, ledger, source)
                try:
                    after = _scored(plan, worker, ledger, parent)
                    asked = _asked(plan, worker, ledger, (before, after))
                    verdict = judge(asked, len(self._plan.objectives), mutation.plan)
                except TrialFailed as failure:
                    if str(failure).startswith(NOT_ITS_FAULT):
                        raise StudyError(f"a mutant could not be judged: {failure}; run again") from failure
                    # The mutant's own fault, and no reason to stop.
                    verdict = Verdict(False, f"failed: {failure}", [])
                self.mutants.add(self._mutant(mutation, parent, verdict))

    def _mutant(self, mutation: Mutation, parent: Parent, verdict: Verdict) -> Mutant:
        trained = json.loads((self._folder(mutation) / LINEAGE).read_text("utf-8"))
        elite, changes = mutation.elite, [asdict(change) for change in verdict.changes]
        record = {**trained, "rule": elite.rule, "changes": changes}
        digests = (elite.parent.digest, parent.digest)
        return Mutant(
            mutation.key, self._plan.name, elite.trial, *digests, verdict.accepted, verdict.reason, record
        )


def require_mutable(plan: Plan) -> None:
    """Raises PlanError if a study cannot mutate, before anything is run."""
    if plan.tokenizer is not None:
        raise PlanError("a study that aligns vocabularies cannot mutate yet; align the parents first")
    if any(sign in str(plan.bred) for sign in "@+"):
        raise PlanError(f"{plan.bred}: mergekit reads '@' and '+' in a path otherwise; rename it")
    if not plan.preference:
        raise PlanError("a mutation learns from a split of its own: name its items under 'preference'")


def recipes_of(parent: Parent, dtype: str) -> list[Recipe]:
    """The recipes that are a parent: its own, if it is one; and the parent alone."""
    own = [parent.source] if isinstance(parent.source, Recipe) and not parent.adapter else []
    return [*own, Recipe("passthrough", (Slice((Source(parent),)),), parent, dtype=dtype)]


def _judging(plan: Plan, pool: Mapping[str, Parent], mutation: MutationPlan) -> Plan:
    """A plan for a worker over mutants and what they were made of, which asks what the gate wants to know."""
    return plan.model_copy(
        update={
            "name": f"{plan.name}.gate",
            "parents": dict.fromkeys(pool, ""),
            "base": None,
            "tokenizer": None,
            "mutation": None,  # what mutating would need was looked at when the study began
            "space": SpacePlan(weights=WeightsPlan(methods=("linear",))),
            "objectives": (*plan.objectives, *mutation.monitor),
            "held_out": (),
        }
    )


def _asked(plan: Plan, worker: Scoring, ledger: Ledger, digests: Sequence[str]) -> list[Asked]:
    """Two recipes' answers to every task: before, and after."""
    tasks = worker.ready.tasks
    metrics = [ledger.metrics(digest, tasks) for digest in digests]
    found = []
    for goal, task in zip(plan.goals, tasks, strict=True):
        before, after = (known[task][goal.metric].value for known in metrics)
        one, other = (ledger.items(digest, task) for digest in digests)
        found.append(Asked(goal.name, goal.metric, goal.maximize, (before, after), (one, other)))
    return found


def _scored(plan: Plan, worker: Scoring, ledger: Ledger, parent: Parent) -> str:
    """The digest of a recipe that is the parent, and that the ledger then has all scores of.

    Raises TrialFailed if it cannot be scored.
    """
    wanted, recipes = set(worker.ready.tasks), recipes_of(parent, plan.engine.dtype)
    for recipe in recipes:
        if ledger.metrics(recipe.digest, wanted).keys() >= wanted:
            return recipe.digest
    alone = recipes[-1]
    text = to_yaml(alone, lambda p: p.reference, {})
    ledger.commit(alone.digest, text, *worker.score(alone))
    return alone.digest

"""Runs a study: propose a recipe, score it, commit the scores; then score the front on held-out items.

The loop is ``Session._score_candidates``. A session contains the checked plan, the study and a worker.
``run`` opens one session; evolve.py opens one for each era, and also mines preference pairs with its worker.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from ..checking.closed_eras import closed
from ..checking.members import members
from ..checking.preflight import Preflight, preflight
from ..checking.worker_order import worker_order
from ..errors import SpaceUsedUp, StudyError, TrialFailed
from ..plan import Plan
from ..recipe import Recipe
from ..score import Part, Seconds, TaskScore
from ..space.kinds import Space
from ..space.seeds import Labelled
from ..study.identity import identify_study
from ..study.results import Results
from ..study.storage import Database
from ..study.study import Candidate, Study
from ..workers.order import Cluster, OpenWorker, Scoring
from ..workers.supervisor import Supervised
from ..workers.worker_pool import WorkerPool, open_pool
from .remaining import finished

_LOG = logging.getLogger("recipesearch")
_WINDOW = 20  # number of last candidates over which failures are counted


@dataclass
class Progress:
    """The state of a run: recipes scored in all, failures in this run, best values by objective.

    ``utilisation`` is the share of the workers' time that scoring took in this run, 0 to 1.
    """

    total: int
    era: str | None = None
    scored: int = 0
    failed: int = 0
    last_cause: str | None = None
    workers: int = 1
    utilisation: float = 0.0
    best: dict[str, float] = field(default_factory=dict)


Observer = Callable[[Progress], None]
Scored = tuple[list[TaskScore], Seconds]
Job = Callable[[Scoring], Scored]
MoreSeeds = Callable[[Space], Sequence[Labelled]]


def run_eras(
    plans: Sequence[Plan],
    observe: Observer = lambda progress: None,
    open_worker: OpenWorker | None = None,
) -> Results:
    """Runs the eras of a study file one after the other, as ``run`` does; returns the last era's results.

    An era is closed once the next era has started from its front. An era that has tried all recipes of its
    space ends early, and the next era follows. Raises PlanError if a closed era has changed.
    """
    database = Database(plans[0].storage_url)
    *earlier, last = plans[closed(database, plans) if len(plans) > 1 else 0 :]
    for plan in earlier:
        try:
            run(plan, observe, open_worker, database)
        except SpaceUsedUp as end:
            _LOG.warning("era '%s' ends early: %s", plan.era, end)
    return run(last, observe, open_worker, database)


def run(
    plan: Plan,
    observe: Observer = lambda progress: None,
    open_worker: OpenWorker | None = None,
    database: Database | None = None,
) -> Results:
    """Creates or resumes the plan's study, scores recipes up to ``search.trials``, and scores the front and
    the seeds on the held-out tasks.

    ``open_worker`` starts each of the ``engine.workers``: by default a supervised process. ``Worker`` runs in
    this process, so a crash ends this process too. Raises PlanError and RefusedInput before any heavy work,
    StudyError for a problem that the user has to fix, SpaceUsedUp if the space has no untried recipe left.
    After an interruption at any point, the same call continues. A finished study starts no worker.
    """
    database = database or Database(plan.storage_url)
    here = not isinstance(open_worker, Cluster)  # otherwise this machine need not have the memory
    checked = preflight(plan, members(plan, database), to_run=here)
    with database.sole_runner(plan.name):
        if results := finished(checked, database):
            return results
        with open_session(checked, database, open_worker or Supervised) as session:
            used_up = session.search(observe)
            if used_up:
                raise used_up
            return session.study.results()


@dataclass(frozen=True)
class Session:
    """A checked plan, its study, and started workers. The caller must have the study's lock."""

    checked: Preflight
    study: Study
    pool: WorkerPool

    def search(self, observe: Observer) -> SpaceUsedUp | None:
        """Scores recipes until the budget is spent, then the front and the seeds on held-out items.

        Returns SpaceUsedUp if the space was used up before the budget, else None. Raises StudyError if too
        many of the last 20 candidates failed.
        """
        used_up = None
        try:
            self._score_candidates(observe)
        except SpaceUsedUp as end:  # still score the front on held-out items
            used_up = end
        self._settle()
        if self.pool.ready.held_out:
            self._score_held_out()
        return used_up

    def _score_candidates(self, observe: Observer) -> None:
        """Keeps all workers busy: each that is idle gets the next recipe, in the order in which they end."""
        progress, failures = self._progress(), deque[bool](maxlen=_WINDOW)
        observe(progress)
        jobs = _Candidates(self.study)
        for candidate, scored in self.pool.stream(jobs.next):
            failures.append(self._end(candidate, scored, progress))
            observe(progress)
            if sum(failures) >= self.checked.plan.search.max_failure_rate * _WINDOW:
                raise StudyError(
                    f"{sum(failures)} of the last {len(failures)} candidates failed, the last with: "
                    f"{progress.last_cause}. The study is kept; fix the cause and run the same command again"
                )
        if jobs.used_up:
            raise jobs.used_up

    def _end(self, candidate: Candidate, done: Future[Scored], progress: Progress) -> bool:
        """Stores a candidate's scores, or its failure; returns whether the candidate failed."""
        try:
            scores, seconds = done.result()
        except TrialFailed as failure:
            self.study.fail(candidate, str(failure))
            progress.failed, progress.last_cause = progress.failed + 1, str(failure)
            return True
        self.study.tell(candidate, scores, seconds)
        self._note_best(progress, scores)
        progress.scored = self.study.scored
        progress.workers, progress.utilisation = self.pool.size, self.pool.utilisation
        return False

    def _settle(self) -> None:
        """Scores recipes on further items until their places on the front are sure."""
        failed: set[str] = set()
        flying: dict[str, Part] = {}

        def most_in_doubt() -> tuple[Recipe, Job] | None:
            if (doubt := self.study.next_in_doubt(failed | flying.keys(), flying.values())) is None:
                return None
            recipe, part = doubt
            flying[recipe.digest] = part
            return recipe, partial(_score, recipe=recipe, part=part)

        for recipe, scored in self.pool.stream(most_in_doubt):
            del flying[recipe.digest]
            if not self._commit(recipe, scored, f"recipe {recipe.digest[:12]} has no further scores"):
                failed.add(recipe.digest)
        self.study.settled()

    def _score_held_out(self) -> None:
        """Scores the front and the seeds on the held-out items, unless the ledger has the scores."""
        rows = [row for row in self.study.results().reported if row.held_out is None]
        recipes = ((row.number, self.checked.space.express(row.genome)) for row in rows)
        jobs = ((one, partial(_score, recipe=one[1], held_out=True)) for one in recipes)
        for (number, recipe), scored in self.pool.stream(lambda: next(jobs, None)):
            self._commit(recipe, scored, f"trial {number} has no held-out score")

    def _commit(self, recipe: Recipe, scored: Future[Scored], warning: str) -> bool:
        """Commits further scores of a recipe; False, with a warning, if its scoring failed."""
        try:
            self.study.commit(recipe, *scored.result())
        except TrialFailed as failure:
            _LOG.warning("%s: %s", warning, failure)
            return False
        return True

    def _progress(self) -> Progress:
        """The progress of earlier runs."""
        plan, results = self.checked.plan, self.study.results()
        best = {name: results.best_value(name) for name in results.objectives if results.scored}
        return Progress(plan.search.trials, plan.era, self.study.scored, workers=self.pool.size, best=best)

    def _note_best(self, progress: Progress, scores: Sequence[TaskScore]) -> None:
        metrics = {score.task_hash: score.metrics for score in scores}
        for goal in self.study.goals:
            value, better = goal.of(metrics).value, max if goal.maximize else min
            progress.best[goal.name] = better(value, progress.best.get(goal.name, value))


class _Candidates:
    """The jobs of a search: the recipes that the study asks for, until the space is used up."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self.used_up: SpaceUsedUp | None = None

    def next(self) -> tuple[Candidate, Job] | None:
        """The next candidate; None if there is none until another one has ended."""
        if self.used_up:
            return None
        try:
            candidate = self._study.ask()
        except SpaceUsedUp as end:  # recipes in flight still end
            self.used_up = end
            return None
        if candidate is None:
            return None
        return candidate, partial(_score, recipe=candidate.recipe, part=candidate.part)


def _score(worker: Scoring, recipe: Recipe, held_out: bool = False, part: Part | None = None) -> Scored:
    return worker.score(recipe, held_out, part)


@contextmanager
def open_session(
    checked: Preflight,
    database: Database,
    open_worker: OpenWorker,
    more_seeds: MoreSeeds = lambda space: (),
) -> Iterator[Session]:
    """Starts the workers and opens the study; ``more_seeds`` are added to the seeds of a new study.

    Raises PlanError if the stored study differs from the plan.
    """
    with open_pool(open_worker, worker_order(checked)) as pool:
        ready = pool.ready
        identity = identify_study(
            checked.plan,
            checked.pool.parents,
            checked.space.genes,
            ready.goals,
            ready.conditions,
            checked.choice.sampler,
        )
        study = Study.open(
            checked.plan, checked.space, identity, ready.goals, database, more_seeds(checked.space)
        )
        if ready.held_out:  # otherwise the held-out tasks of an earlier run stay stored
            study.hold_out(ready.held_out)
        yield Session(checked, study, pool)

"""The loop: ask, become the recipe, score, tell. Everything else makes these four lines worth running."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .engines.transformers import TransformersEngine, choose_device
from .errors import PlanError, StudyError, TrialFailed
from .plan import Plan
from .preflight import Preflight, preflight
from .recipe import Recipe
from .score import Objective, TaskScore
from .scoring.scorer import Scorer
from .scoring.tasks import LoadedTask, load_tasks, require_metric
from .study.identity import identify_study
from .study.ledger import Conditions, Seconds
from .study.results import Results
from .study.storage import open_storage, sole_runner
from .study.study import Study

_LOG = logging.getLogger("recipesearch")
_FAILURES_IN_A_ROW = 10


@dataclass
class Progress:
    """Where a run stands: recipes scored in all, failures in this run, best values by objective."""

    total: int
    scored: int = 0
    failed: int = 0
    last_cause: str | None = None
    best: dict[str, float] = field(default_factory=dict)


Observer = Callable[[Progress], None]


def run(plan: Plan, observe: Observer = lambda progress: None) -> Results:
    """Creates or resumes the plan's study, brings it to ``search.trials`` scored recipes, and scores the
    front and the seeds on the held-out tasks.

    Raises PlanError and RefusedInput before any heavy work, StudyError when the study needs a person.
    Interrupted at any point, the same call continues.
    """
    checked = preflight(plan)
    tasks, held_out = load_all_goals(plan)
    storage = open_storage(plan.storage_url)
    with sole_runner(storage, plan.name):
        worker = Worker(checked, tasks)
        hashes = [task.hash for task in tasks]
        identity = identify_study(plan, checked.pool.parents, checked.space.genes, hashes, worker.conditions)
        study = Study(plan, checked.space, identity, storage)
        study.hold_out([task.hash for task in held_out])
        _search(study, worker, _progress(study, plan), observe)
        _score_held_out(study, checked, worker, held_out)
        return study.results()


def load_all_goals(plan: Plan) -> tuple[list[LoadedTask], list[LoadedTask]]:
    """The objectives' tasks and the held-out ones. Raises PlanError if a held-out task is a search task."""
    tasks, held_out = load_goals(plan.goals), load_goals(plan.held_out_goals)
    seen = {task.hash for task in tasks}
    for task in held_out:
        if task.hash in seen:
            raise PlanError(f"held-out task '{task.spec}' asks what the search asks; name other items")
    return tasks, held_out


def load_goals(goals: Sequence[Objective]) -> list[LoadedTask]:
    """The goals' tasks, in order. Raises PlanError for an unknown task or metric."""
    loaded = load_tasks([goal.task for goal in goals])
    for task, goal in zip(loaded, goals, strict=True):
        require_metric(task, goal)
    return loaded


class Worker:
    """One engine and the objectives' requests: everything that outlives a candidate."""

    def __init__(self, checked: Preflight, tasks: Sequence[LoadedTask]) -> None:
        plan, pool = checked.plan, checked.pool
        self._chat_template = plan.engine.chat_template
        self._engine = TransformersEngine(
            tuple(pool.parents.values()),
            pool.parents[pool.base or next(iter(pool.parents))],
            plan.engine.dtype,
            device=choose_device(plan.engine.device),
            threads=plan.engine.threads,
            batch_size=plan.engine.batch_size,
        )
        self.conditions = Conditions(
            plan.engine.kind,
            self._engine.device,
            self._engine.threads,
            self._engine.batch_size,
            self._engine.versions,
            plan.engine.dtype,
            self._chat_template,
        )
        self._scorer = self.scorer(tasks)

    def scorer(self, tasks: Sequence[LoadedTask]) -> Scorer:
        """A Scorer for tasks (each counted once) with this worker's prompts."""
        unique = list({task.hash: task for task in tasks}.values())
        return Scorer(unique, self._engine.lm, self._chat_template)

    def score(self, recipe: Recipe, scorer: Scorer | None = None) -> tuple[list[TaskScore], Seconds]:
        """Becomes a recipe's model and scores it. Raises TrialFailed with the cause.

        Whatever a library raises on one candidate is that candidate's failure: the study goes on.
        """
        begun = time.monotonic()
        try:
            lm = self._engine.load(recipe)
            loaded = time.monotonic()
            scores = (scorer or self._scorer).score(lm)
        except TrialFailed:
            raise
        except Exception as error:
            first_line = (str(error).strip() or "no message").splitlines()[0]
            raise TrialFailed(f"{type(error).__name__}: {first_line}") from error
        return scores, Seconds(loaded - begun, time.monotonic() - loaded)


def _search(study: Study, worker: Worker, progress: Progress, observe: Observer) -> None:
    failures = 0
    observe(progress)
    while (candidate := study.ask()) is not None:
        try:
            scores, seconds = worker.score(candidate.recipe)
        except TrialFailed as failure:
            study.fail(candidate, str(failure))
            failures += 1
            progress.failed, progress.last_cause = progress.failed + 1, str(failure)
            if failures >= _FAILURES_IN_A_ROW:
                raise StudyError(
                    f"{failures} candidates failed in a row, the last with: {failure}. "
                    "The study is kept; mend the cause and run the same command"
                ) from failure
        else:
            study.tell(candidate, scores, seconds)
            failures = 0
            _note_best(progress, study, scores)
        progress.scored = study.scored
        observe(progress)


def _progress(study: Study, plan: Plan) -> Progress:
    """Where earlier runs left the study."""
    results = study.results()
    best = {name: results.best_value(name) for name in results.objectives if results.scored}
    return Progress(plan.search.trials, study.scored, best=best)


def _note_best(progress: Progress, study: Study, scores: Sequence[TaskScore]) -> None:
    by_task: Mapping[str, TaskScore] = {score.task_hash: score for score in scores}
    for objective in study.objectives:
        value = by_task[objective["task"]].metrics[objective["metric"]].value
        better = max if objective["maximize"] else min
        progress.best[objective["name"]] = better(value, progress.best.get(objective["name"], value))


def _score_held_out(study: Study, checked: Preflight, worker: Worker, tasks: Sequence[LoadedTask]) -> None:
    """Scores the front and the seeds on items that the search never saw, unless the ledger has them."""
    if not tasks:
        return
    results, scorer = study.results(), worker.scorer(tasks)
    wanted = {
        row.recipe: row for row in [*results.front, *results.scored] if row in results.front or row.seed
    }
    for row in wanted.values():
        if row.held_out is None:
            recipe = checked.space.express(row.genome)
            try:
                study.commit(recipe, *worker.score(recipe, scorer))
            except TrialFailed as failure:
                _LOG.warning("trial %d has no held-out score: %s", row.number, failure)

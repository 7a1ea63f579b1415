"""The loop: ask, become the recipe, score, tell. Everything else makes these four lines worth running."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..check.closed_eras import closed
from ..check.members import members
from ..check.preflight import Preflight, preflight
from ..errors import SpaceUsedUp, StudyError, TrialFailed
from ..plan import Plan
from ..recipe import Parent
from ..score import TaskScore
from ..space.kinds import Space
from ..space.seeds import Labelled
from ..study.identity import identify_study
from ..study.results import Results
from ..study.storage import open_storage, require_free, sole_runner
from ..study.study import Study
from ..workers.supervisor import Supervised

if TYPE_CHECKING:
    from ..workers.worker import Scoring

_LOG = logging.getLogger("recipesearch")
_WINDOW = 20  # candidates over which failures are counted


@dataclass
class Progress:
    """Where a run stands: recipes scored in all, failures in this run, best values by objective."""

    total: int
    era: str | None = None
    scored: int = 0
    failed: int = 0
    last_cause: str | None = None
    best: dict[str, float] = field(default_factory=dict)


Observer = Callable[[Progress], None]
OpenWorker = Callable[[Plan, Mapping[str, Parent]], "Scoring"]
MoreSeeds = Callable[[Space], Sequence[Labelled]]
AtEnd = Callable[[Preflight, Results, "Scoring"], None]


def run_eras(
    plans: Sequence[Plan], observe: Observer = lambda progress: None, open_worker: OpenWorker | None = None
) -> Results:
    """Runs the eras of a study file one after the other, as ``run`` does; returns the last one's results.

    An era is closed once the next one has begun: its front has become parents there. An era whose space is
    used up has found what there is to find, and the next one follows. Raises PlanError if a closed era is not
    what was run.
    """
    *earlier, last = plans[closed(plans) if len(plans) > 1 else 0 :]
    for plan in earlier:
        try:
            run(plan, observe, open_worker)
        except SpaceUsedUp as end:
            _LOG.warning("era '%s' ends early: %s", plan.era, end)
    return run(last, observe, open_worker)


def run(
    plan: Plan,
    observe: Observer = lambda progress: None,
    open_worker: OpenWorker | None = None,
    *,
    more_seeds: MoreSeeds = lambda space: (),
    at_end: AtEnd = lambda checked, results, worker: None,
) -> Results:
    """Creates or resumes the plan's study, brings it to ``search.trials`` scored recipes, and scores the
    front and the seeds on the held-out tasks.

    A new study begins with ``more_seeds`` beside its space's own; ``at_end`` may ask the worker more.

    ``open_worker`` makes what becomes recipes and scores them: a supervised process unless stated, or
    ``Worker`` for one in this process, which a crash would end. Raises PlanError and RefusedInput before any
    heavy work, StudyError when the study needs a person. Interrupted at any point, the same call continues.
    """
    checked = preflight(plan, members(plan))
    require_free(plan.storage_url, plan.name)
    with (open_worker or Supervised)(plan, checked.pool.parents) as worker:
        storage, ready = open_storage(plan.storage_url), worker.ready
        with sole_runner(storage, plan.name):
            identity = identify_study(
                plan,
                checked.pool.parents,
                checked.space.genes,
                ready.tasks,
                ready.conditions,
                checked.choice.sampler,
            )
            study = Study(plan, checked.space, identity, storage, more_seeds(checked.space))
            if ready.held_out:  # else those that an earlier run was judged by stay
                study.hold_out(ready.held_out)
            used_up = None
            try:
                _search(study, worker, _progress(study, plan), observe, plan.search.max_failure_rate)
            except SpaceUsedUp as end:  # what there is to find is found, and is worth its held-out scores
                used_up = end
            if ready.held_out:
                _score_held_out(study, checked, worker)
            results = study.results()
            at_end(checked, results, worker)
            if used_up:
                raise used_up
            return results


def _search(
    study: Study, worker: Scoring, progress: Progress, observe: Observer, max_failure_rate: float
) -> None:
    failures: deque[bool] = deque(maxlen=_WINDOW)
    observe(progress)
    while (candidate := study.ask()) is not None:
        try:
            scores, seconds = worker.score(candidate.recipe)
        except TrialFailed as failure:
            study.fail(candidate, str(failure))
            progress.failed, progress.last_cause = progress.failed + 1, str(failure)
            failures.append(True)
        else:
            study.tell(candidate, scores, seconds)
            _note_best(progress, study, scores)
            failures.append(False)
        progress.scored = study.scored
        observe(progress)
        if sum(failures) >= max_failure_rate * _WINDOW:
            raise StudyError(
                f"{sum(failures)} of the last {len(failures)} candidates failed, the last with: "
                f"{progress.last_cause}. The study is kept; mend the cause and run the same command"
            )


def _progress(study: Study, plan: Plan) -> Progress:
    """Where earlier runs left the study."""
    results = study.results()
    best = {name: results.best_value(name) for name in results.objectives if results.scored}
    return Progress(plan.search.trials, plan.era, study.scored, best=best)


def _note_best(progress: Progress, study: Study, scores: Sequence[TaskScore]) -> None:
    by_task: Mapping[str, TaskScore] = {score.task_hash: score for score in scores}
    for objective in study.objectives:
        value = by_task[objective["task"]].metrics[objective["metric"]].value
        better = max if objective["maximize"] else min
        progress.best[objective["name"]] = better(value, progress.best.get(objective["name"], value))


def _score_held_out(study: Study, checked: Preflight, worker: Scoring) -> None:
    """Scores the front and the seeds on items that the search never saw, unless the ledger has them."""
    results = study.results()
    wanted = {
        row.recipe: row for row in [*results.front, *results.scored] if row in results.front or row.seed
    }
    for row in wanted.values():
        if row.held_out is None:
            recipe = checked.space.express(row.genome)
            try:
                study.commit(recipe, *worker.score(recipe, held_out=True))
            except TrialFailed as failure:
                _LOG.warning("trial %d has no held-out score: %s", row.number, failure)

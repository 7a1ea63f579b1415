"""evolve: search, mutate the elites, breed the next era's parents, search again.

The only state is the database and the folder of bred parents. Every step has a name that follows from its
inputs: a finished step is found by its name, an unfinished one is repeated. So an interrupted run continues
where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ..analysis.generations import converged, generations
from ..checking.members import members
from ..checking.mutations import require_mutable, require_variants
from ..checking.preflight import Preflight, preflight
from ..errors import MachineFault, RefusedInput, StudyError, TrialFailed
from ..files import remove_abandoned
from ..mutation.breeder import Breeder, Means, Mutation, Train
from ..mutation.training_process import train_apart
from ..plan import Plan
from ..scoring.preferences import Preferences
from ..study.chain import begun
from ..study.results import Results, open_stored
from ..study.storage import Database
from ..workers.order import Cluster, OpenWorker, Scoring
from ..workers.supervisor import Supervised
from .elites import mutations
from .population import first_era, next_era, require_same_population
from .remaining import finished
from .run import Observer, Session, open_session

_LOG = logging.getLogger("recipesearch")


def evolve(
    plans: Sequence[Plan],
    observe: Observer = lambda progress: None,
    open_worker: OpenWorker = Supervised,
    train: Train = train_apart,
) -> Results:
    """Runs the eras of a plan with ``mutation``, each over the parents bred by the previous era.

    Returns the last era's results. By default ``open_worker`` and ``train`` start separate processes. Raises
    as ``run`` does, and StudyError if a training fails. After an interruption at any point, the same call
    continues.
    """
    require_mutable(plans[0])
    require_variants(plans[0])
    database = Database(plans[0].storage_url)
    require_same_population(plans[0], database)
    with database.sole_runner(plans[0].whole_name):  # eras have their own locks, but not between eras
        remove_abandoned(plans[0].bred, locked=True)
        first = max((place for place, plan in enumerate(plans) if begun(database, plan)), default=0)
        loop = _Loop(plans, Means(database, open_worker, train), observe)
        for place in range(first, len(plans)):
            results = loop.run_era(place)
    return results


@dataclass(frozen=True)
class _Mined:
    """The mutations at the end of an era: all keys, and the mutations not judged yet, with their pairs.

    The pairs of a trained mutation are None.
    """

    keys: Sequence[str]
    waiting: Sequence[tuple[Mutation, Preferences | None]]


@dataclass(frozen=True)
class _Loop:
    """The eras of one study, with the means of breeding and the progress observer."""

    plans: Sequence[Plan]
    means: Means
    observe: Observer

    def run_era(self, place: int) -> Results:
        """Runs an era's search, then trains and judges its mutants."""
        plan, last = self.plans[place], place == len(self.plans) - 1
        if not last:  # only the last era is scored on held-out items
            plan = plan.model_copy(update={"held_out": ()})
        opening = next_era(plan, Breeder(plan, self.means)) if place else first_era(plan, self.means)
        breeder, database = Breeder(opening.plan, self.means), self.means.database
        here = not isinstance(self.means.open_worker, Cluster)
        checked = preflight(opening.plan, members(opening.plan, database), to_run=here)
        with database.sole_runner(opening.plan.name):
            if last and (results := finished(checked, database)):
                return results
            with open_session(checked, database, self.means.open_worker, opening.seeds) as session:
                if used_up := session.search(self.observe):
                    _LOG.warning("era '%s' ends early: %s", plan.era, used_up)
                results = session.study.results()
                mined = _Mined((), ()) if last else _mine(session, results, breeder)
                gone = sorted(self._gone(place, checked, breeder))
                session.pool.each(lambda worker: worker.forget(gone))
        _warn_if_converged(plan, checked, results)
        _breed(plan, breeder, mined)
        return results

    def _gone(self, place: int, checked: Preflight, breeder: Breeder) -> set[str]:
        """The earlier eras' parents and mutation sources that are not among this era's parents."""
        gone: set[str] = set()
        for plan in self.plans[:place]:
            gone |= set(open_stored(self.means.database, plan.name)[1]["parents"].values())
            gone |= {d for mutant in breeder.mutants.of(plan.name) for d in (mutant.source, mutant.digest)}
        return gone - {parent.digest for parent in checked.pool.parents.values()}


def _mine(session: Session, results: Results, breeder: Breeder) -> _Mined:
    """Mines preference pairs from the elites with the era's workers."""
    found = mutations(session.checked, results, breeder)
    waiting = [mutation for mutation in found if not breeder.judged(mutation)]
    unmined = [mutation for mutation in waiting if not breeder.is_trained(mutation)]
    jobs = [partial(_pairs, mutation, breeder) for mutation in unmined]
    pairs = dict(zip([mutation.key for mutation in unmined], session.pool.all(jobs), strict=True))
    kept = [m for m in waiting if m.key not in pairs or pairs[m.key] is not None]
    return _Mined([m.key for m in found], [(m, pairs.get(m.key)) for m in kept])


def _pairs(mutation: Mutation, breeder: Breeder, worker: Scoring) -> Preferences | None:
    """A mutation's preference pairs; None, with a warning, if the model yields too few."""
    trial = mutation.elite.trial
    try:
        return breeder.mine(mutation, worker)
    except MachineFault as fault:
        raise StudyError(f"trial {trial} could not be mined: {fault}; run again") from fault
    except (RefusedInput, TrialFailed) as refusal:
        _LOG.warning("trial %s is not mutated: %s", trial, refusal)
        return None


def _breed(plan: Plan, breeder: Breeder, mined: _Mined) -> None:
    """Trains and judges the mutations, and deletes the adapters of rejected mutants."""
    if mined.waiting:
        chosen = ", ".join(f"{m.elite.trial} ({m.elite.rule})" for m, _ in mined.waiting)
        _LOG.warning("era '%s' ends: mutating trials %s", plan.era, chosen)
    for bred in breeder.breed(mined.waiting):
        _LOG.warning("mutant of trial %s: %s", bred.elite.trial, bred.mutant.reason)
    for key in mined.keys:
        mutant = breeder.mutants.get(key)
        if mutant and not mutant.accepted:  # also one that an interrupted run rejected
            breeder.discard(key)


def _warn_if_converged(plan: Plan, checked: Preflight, results: Results) -> None:
    if found := converged(generations(results, checked.space)):
        _LOG.warning(
            "era '%s' has converged: the diversity of its answers is %.2f, at first it was %.2f, and the "
            "hypervolume has not grown for %d generations",
            plan.era,
            found.last,
            found.first,
            found.still,
        )

"""evolve: search, mutate the elites, breed the next era's parents, search again.

Nothing is kept but what the database and the folder of bred parents hold: every step is found done, or is
done again under its own name, so a run that was cut short continues where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..analysis.generations import converged, generations
from ..check.preflight import Preflight
from ..errors import RefusedInput, SpaceUsedUp, StudyError, TrialFailed
from ..files import remove_abandoned
from ..mutation.mutate import NOT_ITS_FAULT, Breeder, Means, Mutation, Train, require_mutable
from ..mutation.training_process import train_apart
from ..plan import Plan
from ..scoring.preferences import Preferences
from ..study.chain import begun
from ..study.results import Results, open_stored
from ..study.storage import open_storage, sole_runner
from ..workers.supervisor import Supervised
from .elites import mutations
from .population import first_era, next_era, require_same_population
from .run import Observer, OpenWorker, run
from .variants import require_variants

if TYPE_CHECKING:
    from ..workers.worker import Scoring

_LOG = logging.getLogger("recipesearch")


def evolve(
    plans: Sequence[Plan],
    observe: Observer = lambda progress: None,
    open_worker: OpenWorker = Supervised,
    train: Train = train_apart,
) -> Results:
    """Runs the eras of a plan with ``mutation``, each over the parents that the last one has bred.

    Returns the last one's results. ``open_worker`` and ``train`` start processes of their own unless stated.
    Raises as ``search.run`` does, and StudyError if a training fails. Interrupted at any point, the same call
    continues.
    """
    require_mutable(plans[0])
    require_variants(plans[0])
    require_same_population(plans[0])
    storage = open_storage(plans[0].storage_url)
    with sole_runner(storage, plans[0].whole_name):  # the eras' own locks leave out what is between them
        remove_abandoned(plans[0].bred, locked=True)
        first = max((place for place, plan in enumerate(plans) if begun(plan)), default=0)
        for place in range(first, len(plans)):
            results = _run_era(plans, place, observe, Means(storage.engine, open_worker, train))
    return results


def _run_era(plans: Sequence[Plan], place: int, observe: Observer, means: Means) -> Results:
    """One era: opened, searched and closed."""
    plan, last = plans[place], place == len(plans) - 1
    if not last:  # what is not judged by held-out items need not be scored on them
        plan = plan.model_copy(update={"held_out": ()})
    opening = next_era(plan, Breeder(plan, means)) if place else first_era(plan, means)
    close = _Close(opening.plan, Breeder(opening.plan, means), plans[:place], last=last)
    try:
        results = run(opening.plan, observe, means.open_worker, more_seeds=opening.seeds, at_end=close)
    except SpaceUsedUp as end:
        _LOG.warning("era '%s' ends early: %s", plan.era, end)
        results = close.results
    close.breed()
    return results


class _Close:
    """An era's end, while its worker still stands: mines the elites, and frees what no era needs any more."""

    results: Results

    def __init__(self, plan: Plan, breeder: Breeder, earlier: Sequence[Plan], *, last: bool) -> None:
        self._plan, self._breeder = plan, breeder
        self._earlier, self._last = earlier, last
        self._keys: list[str] = []
        self._mined: list[tuple[Mutation, Preferences | None]] = []

    def __call__(self, checked: Preflight, results: Results, worker: Scoring) -> None:
        self.results = results
        for mutation in [] if self._last else mutations(checked, results, self._breeder):
            self._keys.append(mutation.key)
            if self._breeder.judged(mutation):
                continue
            mined = None
            if not self._breeder.is_trained(mutation):
                try:
                    mined = self._breeder.mine(mutation, worker)
                except (RefusedInput, TrialFailed) as refusal:
                    if str(refusal).startswith(NOT_ITS_FAULT):
                        raise StudyError(
                            f"trial {mutation.elite.trial} could not be mined: {refusal}; run again"
                        ) from refusal
                    _LOG.warning("trial %s is not mutated: %s", mutation.elite.trial, refusal)
                    continue
            self._mined.append((mutation, mined))
        worker.forget(sorted(self._gone(checked)))
        if found := converged(generations(results, checked.space)):
            _LOG.warning(
                "era '%s' has converged: its answers' diversity is %.2f, of %.2f at first, and %d "
                "generations brought nothing",
                self._plan.era,
                found.last,
                found.first,
                found.still,
            )

    def breed(self) -> None:
        """Trains and judges what was mined; of those turned away only what is written down stays."""
        if self._mined:
            chosen = ", ".join(f"{m.elite.trial} ({m.elite.rule})" for m, _ in self._mined)
            _LOG.warning("era '%s' ends: mutating trials %s", self._plan.era, chosen)
        for bred in self._breeder.breed(self._mined):
            _LOG.warning("mutant of trial %s: %s", bred.elite.trial, bred.mutant.reason)
        for key in self._keys:
            mutant = self._breeder.mutants.get(key)
            if mutant and not mutant.accepted:  # also what a kill has left of it
                self._breeder.discard(key)

    def _gone(self, checked: Preflight) -> set[str]:
        """The parents of earlier eras, and what was mutated there, that are not among this one's parents."""
        gone: set[str] = set()
        for plan in self._earlier:
            gone |= set(open_stored(plan.storage_url, plan.name)[1]["parents"].values())
            gone |= {
                d for mutant in self._breeder.mutants.of(plan.name) for d in (mutant.source, mutant.digest)
            }
        return gone - {parent.digest for parent in checked.pool.parents.values()}

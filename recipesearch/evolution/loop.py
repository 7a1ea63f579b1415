"""evolve: search, mutate the elites, breed the next era's parents, search again.

Nothing is kept but what the database and the folder of bred parents hold: every step is found done, or is
done again under its own name, so a run that was cut short continues where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..diversity import converged, generations
from ..eras import begun
from ..errors import RefusedInput, SpaceUsedUp, TrialFailed
from ..mutation.bred import remove_partial
from ..mutation.mutate import Breeder, Mutation, Train
from ..mutation.process import train_apart
from ..plan import Plan
from ..preflight import Preflight
from ..scoring.preferences import Preferences
from ..search import Observer, OpenWorker, run
from ..study.mutants import Mutants
from ..study.results import Results, open_stored
from ..study.storage import open_storage
from ..workers.supervisor import Supervised
from .elites import mutations
from .population import Opening, next_era, opened
from .variants import require_variants, with_variants

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
    require_variants(plans[0])
    remove_partial(plans[0])
    # What no era but the last is judged by need not be scored in the others.
    plans = [*(plan.model_copy(update={"held_out": ()}) for plan in plans[:-1]), plans[-1]]
    first = max((place for place, plan in enumerate(plans) if begun(plan)), default=0)
    for place, plan in list(enumerate(plans))[first:]:
        engine = open_storage(plan.storage_url).engine
        opening = next_era(plan, Breeder(plan, engine, open_worker, train)) if place else opened(plan)
        if place == 0 and not begun(plan):
            opening = Opening(with_variants(plan, engine, open_worker, train))
        breeder = Breeder(opening.plan, engine, open_worker, train)
        close = _Close(opening.plan, breeder, Mutants(engine), plans[:place], last=plan is plans[-1])
        try:
            results = run(opening.plan, observe, open_worker, more_seeds=opening.seeds, at_end=close)
        except SpaceUsedUp as end:
            _LOG.warning("era '%s' ends early: %s", plan.era, end)
            results = close.results
        close.breed()
    return results


class _Close:
    """An era's end, while its worker still stands: mines the elites, and frees what no era needs any more."""

    results: Results

    def __init__(
        self, plan: Plan, breeder: Breeder, mutants: Mutants, earlier: Sequence[Plan], *, last: bool
    ) -> None:
        self._plan, self._breeder, self._mutants = plan, breeder, mutants
        self._earlier, self._last = earlier, last
        self._mined: list[tuple[Mutation, Preferences | None]] = []

    def __call__(self, checked: Preflight, results: Results, worker: Scoring) -> None:
        self.results = results
        for mutation in [] if self._last else mutations(checked, results, self._breeder):
            if self._breeder.judged(mutation):
                continue
            mined = None
            if not self._breeder.is_trained(mutation):
                try:
                    mined = self._breeder.mine(mutation, worker)
                except (RefusedInput, TrialFailed) as refusal:
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
        for bred in self._breeder.breed(self._mined):
            _LOG.warning("mutant of trial %s: %s", bred.elite.trial, bred.mutant.reason)
        for mutation, _ in self._mined:
            judged = self._breeder.judged(mutation)
            if judged and not judged.accepted:
                self._breeder.discard(mutation)

    def _gone(self, checked: Preflight) -> set[str]:
        """The parents of earlier eras, and what was mutated there, that are not among this one's parents."""
        gone: set[str] = set()
        for plan in self._earlier:
            gone |= set(open_stored(plan.storage_url, plan.name)[1]["parents"].values())
            gone |= {d for mutant in self._mutants.of(plan.name) for d in (mutant.source, mutant.digest)}
        return gone - {parent.digest for parent in checked.pool.parents.values()}

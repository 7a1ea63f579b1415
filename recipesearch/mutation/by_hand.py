"""Fine-tunes one chosen winner, outside any loop over eras."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checking.members import open_preflight
from ..checking.preflight import Preflight
from ..checking.worker_order import worker_order
from ..errors import StudyError
from ..files import remove_abandoned
from ..plan import MutationPlan, Plan, read_plan
from ..study.mutants import Mutant
from ..study.results import Results
from ..workers.supervisor import Supervised
from .bred import keep
from .breeder import Bred, Breeder, Elite, Means
from .training_process import train_apart

if TYPE_CHECKING:
    from ..scoring.preferences import Preferences, Wanted

_LOG = logging.getLogger("recipesearch")


@dataclass(frozen=True)
class Mutated:
    """A mutant, and its reference as a parent in study files."""

    reference: str
    mutant: Mutant

    @property
    def changes(self) -> Sequence[Mapping[str, Any]]:
        """Each goal's values before and after, with the paired test."""
        return self.mutant.record["changes"]  # type: ignore[no-any-return]

    def data(self) -> dict[str, Any]:
        """The mutant as JSON data."""
        keys = ("source", "pairs", "pairs_digest", "seed", "settings", "trained", "changes")
        verdict = {"accepted": self.mutant.accepted, "reason": self.mutant.reason}
        return {"reference": self.reference, **verdict, **{key: self.mutant.record[key] for key in keys}}


def mutation_plan(
    stored: Plan, stated: Plan, settings: Mapping[str, Any], preference: Sequence[str] = ()
) -> Plan:
    """The ``stored`` plan with ``mutation`` and ``preference`` of the current study file (``stated``).

    ``settings`` override keys of ``mutation``, with or without the prefix ``mutation.``. ``preference`` names
    tasks, or files relative to the current folder. Raises PlanError.
    """
    own = {key.removeprefix("mutation."): value for key, value in settings.items()}
    learned = tuple(str(Path(p).absolute()) if Path(p).is_file() else p for p in preference)
    changes = {
        "mutation": {**(stated.mutation or MutationPlan()).model_dump(), **own},
        "preference": learned or stated.preference,
    }
    return read_plan({**stored.model_dump(), **changes}, stored.folder, f"study '{stored.name}'")


def mutate_trial(results: Results, plans: Sequence[Plan], trial: int) -> list[Mutated]:
    """The mutants of a trial's recipe, one for each plan.

    Raises StudyError for a trial without a score, RefusedInput if a parent has changed since.
    """
    row, plan = results.row(trial), plans[0]
    checked = open_preflight(plan, results.database)
    if row.values is None:
        raise StudyError(f"trial {trial} has no score ({row.cause or row.state}); mutate another trial")
    elite = Elite.of(checked.recipe_of(trial, row.genome, row.recipe), trial, "named")
    bred = _bred(results, plans, checked, elite)
    origin = {"study": plan.name, "trial": trial}
    return [Mutated(keep(plan, one.parent, origin), one.mutant) for one in bred]


def _bred(results: Results, plans: Sequence[Plan], checked: Preflight, elite: Elite) -> list[Bred]:
    """The elite's mutants, one for each plan; mutations with equal requirements on pairs share one mining."""
    plan = plans[0]
    breeder = Breeder(plan, Means(results.database, Supervised, train_apart))
    mutations = [breeder.mutation(elite, one.mutation) for one in plans if one.mutation]
    with results.database.sole_runner(plan.whole_name):
        remove_abandoned(plan.bred, locked=True)
        waiting = [mutation for mutation in mutations if not breeder.is_trained(mutation)]
        mined: dict[Wanted, Preferences] = {}
        if waiting:
            _LOG.warning("mining preference pairs from trial %s", elite.trial)
            with Supervised(worker_order(checked)) as worker:
                for mutation in waiting:
                    wanted = breeder.wanted(mutation)
                    mined[wanted] = mined.get(wanted) or breeder.mine(mutation, worker)
        _LOG.warning("training and judging")
        return breeder.breed([(m, mined[breeder.wanted(m)] if m in waiting else None) for m in mutations])

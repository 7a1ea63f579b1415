"""Creates a study: its seeds, its identity and what is known at its beginning; or opens the stored one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.study import StudyDirection

from ..errors import StudyError
from ..plan import Plan
from ..samplers.fit import SAMPLERS
from ..samplers.marks import SEED
from ..score import Goal
from ..space.coordinates import CoordinateSystem
from ..space.kinds import Space
from ..space.projection import Projection
from ..space.seeds import Labelled, distinct, seeds
from ..space.weights import WeightSpace
from .identity import Identity, goals_of, require_same
from .known import record
from .ledger import Ledger
from .results import IDENTITY, KNOWN, PLAN, stored_form
from .trial_storage import create


def create_or_open(
    plan: Plan, space: Space, identity: Identity, ledger: Ledger, more_seeds: Sequence[Labelled]
) -> optuna.Study:
    """Creates the plan's study with its seeds and identity, or opens the stored one of the same identity.

    Raises PlanError if the stored study differs from the plan.
    """
    study = create(ledger.database, plan.name, _directions(plan, goals_of(identity)))
    stored = study.user_attrs.get(IDENTITY)
    if stored is not None:
        require_same(plan.name, stored, _with_stored_sampler(plan, identity, stored))
    elif any(SEED not in trial.user_attrs for trial in study.get_trials(deepcopy=False)):
        raise StudyError(
            f"the storage has a study '{plan.name}' that recipesearch did not create; "
            "give the plan another name"
        )
    else:
        # An interrupted run may have queued some seeds; before the first ask all trials are seeds.
        queue = distinct(space, [*seeds(space), *more_seeds])
        for label, genome in queue[len(study.trials) :]:
            study.enqueue_trial(genome, user_attrs={SEED: label})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(_metric_names(plan))
        if SAMPLERS[identity["search"]["sampler"]].coordinates:
            assert isinstance(space, WeightSpace), "checked by samplers.fit"
            projection = Projection(CoordinateSystem(space))
            study.set_user_attr(KNOWN, record(ledger, projection, goals_of(identity)))
        study.set_user_attr(IDENTITY, dict(identity))
    study.set_user_attr(PLAN, stored_form(plan))
    return study


def _directions(plan: Plan, goals: Sequence[Goal]) -> list[StudyDirection]:
    if plan.search.scalarize is not None:
        return [StudyDirection.MAXIMIZE]
    return [StudyDirection.MAXIMIZE if goal.maximize else StudyDirection.MINIMIZE for goal in goals]


def _with_stored_sampler(plan: Plan, identity: Identity, stored: Identity) -> Identity:
    """The identity with the stored sampler for ``auto``, which another version might choose differently."""
    if plan.search.sampler != "auto":
        return identity
    return {**identity, "search": {**identity["search"], "sampler": stored["search"]["sampler"]}}


def _metric_names(plan: Plan) -> list[str]:
    return ["scalarized"] if plan.search.scalarize is not None else [goal.name for goal in plan.goals]

"""A study's results, read from its trials and the ledger. Light: opens no model, changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from .. import pareto
from ..errors import PlanError, StudyError
from ..plan import Plan, read_plan
from ..samplers.marks import GAIN, RECIPE, SEED
from ..samplers.posterior import Standing
from ..score import Conditions, Goal, Measurement, Metrics, Seconds
from ..space.seeds import parent_label
from .blocks import LAST_TABLES
from .bounds import violation
from .identity import Identity, goals_of
from .ledger import Ledger
from .outage import patiently
from .standings import stored_posterior
from .storage import Database
from .trial_storage import load

# User attributes, readable in any Optuna tool: of a trial (more in samplers/marks.py), and of the study.
CAUSE = "cause"
IDENTITY, PLAN, HELD_OUT, KNOWN = "identity", "plan", "held_out", "known"

Values = tuple[Measurement, ...]


@dataclass(frozen=True)
class Row:
    """One trial. ``values`` and ``held_out`` are in the objectives' order; None without a score.

    ``ended`` is the local time at which the trial ended.
    ``expected_gain`` is what a model expected of the recipe: a share of the front's hypervolume or, of a
    single number, its increase.
    """

    number: int
    state: str
    recipe: str | None
    seed: str | None
    cause: str | None
    genome: Mapping[str, Any]
    values: Values | None
    held_out: Values | None
    seconds: Seconds | None
    ended: datetime | None = field(default=None, compare=False)
    standing: Standing | None = None
    expected_gain: float | None = None


@dataclass(frozen=True)
class Results:
    """All trials of a study, in order, with the study's identity and ledger.

    Once a model-based search has ended, recipes are compared by their posterior means (``Row.standing``),
    which pool what is known about similar recipes; otherwise by their measured values. ``effects`` are then
    the changes of the objectives' values, by place and parent, if the knee took a place from this parent.
    """

    identity: Identity
    rows: Sequence[Row]
    ledger: Ledger
    effects: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        """The study's database."""
        return self.ledger.database

    @cached_property
    def goals(self) -> tuple[Goal, ...]:
        """The objectives, in order."""
        return goals_of(self.identity)

    @property
    def objectives(self) -> list[str]:
        """The objectives' names, in order."""
        return [goal.name for goal in self.goals]

    @property
    def sampler(self) -> str:
        """The sampler that the study uses, also for ``sampler: auto``."""
        return str(self.identity["search"]["sampler"])

    @property
    def signs(self) -> tuple[int, ...]:
        """The factors that turn objectives into losses: -1 for a maximized objective, else 1."""
        return tuple(goal.sign for goal in self.goals)

    @cached_property
    def scored(self) -> list[Row]:
        """The first trial of each scored recipe, in order: repeats are left out."""
        first: dict[str, Row] = {}
        for row in self.rows:
            if row.recipe and row.values:
                first.setdefault(row.recipe, row)
        return list(first.values())

    @cached_property
    def eligible(self) -> list[Row]:
        """The scored recipes within all bounds; all scored recipes if none is within all bounds."""
        return [row for row in self.scored if self.within_bounds(row)] or self.scored

    @cached_property
    def front(self) -> list[Row]:
        """The non-dominated eligible recipes, best first objective first."""
        if not self.scored:
            return []
        chosen = [row for row, on in zip(self.eligible, pareto.front(self.losses()), strict=True) if on]
        return sorted(chosen, key=lambda row: self.loss(row))

    @property
    def reported(self) -> list[Row]:
        """The rows whose held-out scores are reported: the front and the seeds, one row for each recipe."""
        rows = [*self.front, *(row for row in self.scored if row.seed)]
        return list({row.recipe: row for row in rows}.values())

    def within_bounds(self, row: Row) -> bool:
        """Whether a scored row's measured values are within every objective's bound."""
        assert row.values is not None
        measured = zip(self.goals, row.values, *self._parents, strict=True)
        missed = [violation(goal, m.value, [p.value for p in parents]) for goal, m, *parents in measured]
        return all(miss is None or miss <= 0 for miss in missed)

    def estimates(self, row: Row) -> tuple[float, ...]:
        """The values by which a scored row is compared with others."""
        assert row.values is not None
        return row.standing.means if row.standing else tuple(m.value for m in row.values)

    @cached_property
    def _parents(self) -> list[Values]:
        """The values of the parents that were scored unmerged."""
        alone = {parent_label(name) for name in self.identity["parents"]}
        return [row.values for row in self.rows if row.seed in alone and row.values]

    def losses(self) -> pareto.Losses:
        """The eligible recipes' losses, shape (recipes, objectives)."""
        return np.array([self.loss(row) for row in self.eligible])

    def loss(self, row: Row) -> tuple[float, ...]:
        """One scored row's losses."""
        return tuple(sign * value for sign, value in zip(self.signs, self.estimates(row), strict=True))

    def row(self, number: int) -> Row:
        """A trial by its number. Raises PlanError if there is none."""
        for row in self.rows:
            if row.number == number:
                return row
        raise PlanError(f"the study has no trial {number}; it has {len(self.rows)}, counted from 0")

    def best(self, objective: str) -> Row:
        """The recipe with the best value of an objective. Raises PlanError for an unknown name."""
        if objective not in self.objectives:
            raise PlanError(f"no objective '{objective}': it is one of {', '.join(self.objectives)}")
        self.require_scores()
        index = self.objectives.index(objective)
        return min(self.eligible, key=lambda row: self.loss(row)[index])

    def best_value(self, objective: str) -> float:
        """The best value of an objective."""
        values = self.best(objective).values
        assert values is not None
        return values[self.objectives.index(objective)].value

    def knee(self) -> Row:
        """The front's best compromise (see pareto.knee)."""
        self.require_scores()
        return self.eligible[pareto.knee(self.losses())]

    def require_scores(self) -> None:
        """Raises StudyError if nothing is scored yet."""
        if not self.scored:
            raise StudyError("the study has no scored recipe yet; run it first")


def open_results(database: Database, name: str | None = None) -> tuple[Plan, Results]:
    """The stored plan and results of a study in a database; ``name`` may be left out if there is only one.

    Raises StudyError if the database or the study is not there.
    """
    plan, identity = open_stored(database, name)
    return plan, read_results(load(database, plan.name), Ledger(database, conditions_of(identity)))


def open_stored(database: Database, name: str | None = None) -> tuple[Plan, Identity]:
    """The stored plan and identity of a study. Raises as ``open_results``; reads no trial and no score."""
    database.require_studies(LAST_TABLES)
    storage = database.storage
    names = [name] if name else patiently(lambda: optuna.get_all_study_names(storage))
    if not names:
        raise StudyError("the database holds no study yet; run one first")
    if len(names) != 1:
        raise PlanError(f"the database holds {len(names)} studies; name one: {', '.join(sorted(names))}")
    try:
        stored = patiently(lambda: storage.get_study_user_attrs(storage.get_study_id_from_name(names[0])))
    except KeyError as error:
        raise StudyError(f"the storage has no study '{names[0]}' yet; run it first") from error
    if PLAN not in stored or IDENTITY not in stored:
        raise StudyError(
            f"study '{names[0]}' is not one of recipesearch's, or its first run was interrupted; run it again"
        )
    content = {**stored[PLAN], "storage": database.url}
    return read_plan(content, stored[PLAN]["folder"], f"study '{names[0]}'"), stored[IDENTITY]


def read_results(study: optuna.Study, ledger: Ledger) -> Results:
    """Joins a study's trials with the ledger."""
    identity = study.user_attrs[IDENTITY]
    goals = goals_of(identity)
    held_out = [
        replace(goal, hash=task)
        for goal, task in zip(goals, study.user_attrs.get(HELD_OUT, []), strict=False)
    ]
    tasks = [goal.hash for goal in goals]
    metrics = ledger.all_metrics([*tasks, *(goal.hash for goal in held_out)])
    seconds = ledger.seconds(tasks)

    def row(trial: FrozenTrial) -> Row:
        digest = trial.user_attrs.get(RECIPE)
        complete = trial.state == TrialState.COMPLETE
        known = metrics.get(digest, {}) if complete and digest else {}
        return Row(
            number=trial.number,
            state=trial.state.name.lower(),
            recipe=digest,
            seed=trial.user_attrs.get(SEED),
            cause=trial.user_attrs.get(CAUSE),
            genome=trial.params,
            values=_values(known, goals),
            held_out=_values(known, held_out),
            seconds=seconds.get(digest) if complete and digest else None,
            ended=trial.datetime_complete,
            expected_gain=trial.user_attrs.get(GAIN),
        )

    rows = [row(trial) for trial in study.get_trials(deepcopy=False)]
    stored = stored_posterior(study, {str(row.recipe) for row in rows if row.values}, len(goals))
    if stored is None:
        return Results(identity, rows, ledger)
    rows = [replace(row, standing=stored.standings[str(row.recipe)]) if row.values else row for row in rows]
    return Results(identity, rows, ledger, stored.effects)


def stored_form(plan: Plan) -> dict[str, Any]:
    """The plan as stored with its study: without the storage, whose URL may contain a password."""
    content: dict[str, Any] = json.loads(plan.model_dump_json(exclude={"storage"}))
    return content


def conditions_of(identity: Identity) -> Conditions:
    """The ledger conditions of a stored study."""
    return Conditions(**{key: value for key, value in identity["engine"].items() if key != "label"})


def _values(known: Mapping[str, Metrics], goals: Sequence[Goal]) -> Values | None:
    """The goals' measurements; None unless all are known."""
    if not goals or any(goal.hash not in known for goal in goals):
        return None
    return tuple(goal.of(known) for goal in goals)

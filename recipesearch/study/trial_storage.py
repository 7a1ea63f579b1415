"""Optuna's view of one study: its trials in memory, and in the database one transaction for each change.

Optuna's own storage takes a transaction for each gene of a trial, and builds an object for each row that it
reads. Only one process runs a study (see ``Database.sole_runner``), so the trials in memory are never out of
date. The tables are Optuna's: its dashboard reads them, and studies of earlier versions open unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Self

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages import InMemoryStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..errors import StudyError
from .storage import Database, upsert

_TRIALS = models.TrialModel.__table__
_PARAMS = models.TrialParamModel.__table__
_VALUES = models.TrialValueModel.__table__
_USER = models.TrialUserAttributeModel.__table__
_SYSTEM = models.TrialSystemAttributeModel.__table__
_STUDY_USER = models.StudyUserAttributeModel.__table__
_STUDY_SYSTEM = models.StudySystemAttributeModel.__table__
_FINITE = models.TrialValueModel.TrialValueType.FINITE

_UNSAVED = 1 << 62  # ids of trials that are in memory only start here

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class _Saved:
    """What the database has of a trial. Optuna changes a trial's own dictionaries in place."""

    key: int | None = None
    state: TrialState | None = None
    params: Set[str] = frozenset()
    user: Mapping[str, Any] = field(default_factory=dict)
    system: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, trial: FrozenTrial) -> Self:
        attributes = dict(trial.user_attrs), dict(trial.system_attrs)
        return cls(trial._trial_id, trial.state, set(trial.params), *attributes)


class TrialStorage(InMemoryStorage):
    """The storage of one study in a database. Raises KeyError if the database lacks the study.

    A trial that ``Study.ask`` has created is in memory only until ``save``. The end of a trial is saved at
    once. A process that ends before ``save`` leaves no trace of the trial, and the next process asks for it
    again. A trial's id is the one in the database; until its first ``save`` the trial has another one.
    """

    def __init__(self, database: Database, name: str) -> None:
        super().__init__()
        self._database, stored = database, database.storage
        self._key = stored.get_study_id_from_name(name)
        self._study = self.create_new_study(stored.get_study_directions(self._key), name)
        self._saved: dict[int, _Saved] = {}  # of unfinished trials, by number
        self._max_trial_id = _UNSAVED
        mine = self._studies[self._study]
        mine.user_attrs = stored.get_study_user_attrs(self._key)
        mine.system_attrs = stored.get_study_system_attrs(self._key)
        for trial in database.read(lambda connection: list(_read(connection, self._key))):
            self._adopt(trial)

    def _adopt(self, trial: FrozenTrial) -> None:
        """Takes a stored trial into memory."""
        self._trial_id_to_study_id_and_number[trial._trial_id] = (self._study, trial.number)
        self._studies[self._study].trials.append(trial)
        self._update_cache(trial._trial_id, self._study)
        if not trial.state.is_finished():
            self._saved[trial.number] = _Saved.of(trial)

    def save(self, number: int) -> None:
        """Writes what the database lacks of a trial, in one transaction. Safe to repeat."""
        trial = copy(self._studies[self._study].trials[number])
        before = self._saved.get(number, _Saved())
        trial._trial_id = self._database.write(lambda each: _write(each, self._key, trial, before))
        self._trial_id_to_study_id_and_number[trial._trial_id] = (self._study, number)
        self._set_trial(trial._trial_id, trial)
        if trial.state.is_finished():
            self._saved.pop(number, None)
        else:
            self._saved[number] = _Saved.of(trial)

    # -- what Optuna calls

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Creates a trial; the trial of a template, which is complete, is saved at once."""
        unsaved = super().create_new_trial(study_id, template_trial)
        if template_trial is not None:
            self.save(self.get_trial_number_from_id(unsaved))
        return unsaved

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Sets the state; the end of a trial is saved at once."""
        changed = super().set_trial_state_values(trial_id, state, values)
        if state.is_finished():
            self.save(self.get_trial_number_from_id(trial_id))
        return changed

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Sets and saves an attribute of the study."""
        self._save_attribute(_STUDY_USER, key, value)
        super().set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Sets and saves an attribute of the study."""
        self._save_attribute(_STUDY_SYSTEM, key, value)
        super().set_study_system_attr(study_id, key, value)

    def _save_attribute(self, table: Any, key: str, value: Any) -> None:
        row = {"study_id": self._key, "key": key, "value_json": json.dumps(value)}
        self._database.write(lambda each: _put(each, table, ("study_id", "key"), [row]))


def load(database: Database, name: str) -> optuna.Study:
    """A study of a database with its trials in memory. Raises KeyError if the database lacks the study."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    random = optuna.samplers.RandomSampler()
    return optuna.load_study(study_name=name, storage=TrialStorage(database, name), sampler=random)


def create(database: Database, name: str, directions: Sequence[StudyDirection]) -> optuna.Study:
    """As ``load``; creates the study if the database lacks it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(study_name=name, storage=database.storage, directions=directions, load_if_exists=True)
    return load(database, name)


# -- the tables


def _write(connection: sa.Connection, study: int, trial: FrozenTrial, before: _Saved) -> int:
    """Writes what has changed since ``before``, and returns the trial's key.

    Rows that exist already get the same values again.
    """
    key = before.key or connection.scalar(
        sa.select(_TRIALS.c.trial_id).where(_TRIALS.c.study_id == study, _TRIALS.c.number == trial.number)
    )
    state = {
        "state": trial.state,
        "datetime_start": _utc(trial.datetime_start),
        "datetime_complete": _utc(trial.datetime_complete),
    }
    if key is None:
        new = sa.insert(_TRIALS).values(study_id=study, number=trial.number, **state)
        key = connection.execute(new).inserted_primary_key[0]  # type: ignore[index]
    elif before.state != trial.state:
        connection.execute(sa.update(_TRIALS).where(_TRIALS.c.trial_id == key).values(**state))
    _put(connection, _PARAMS, ("trial_id", "param_name"), _params(key, trial, before))
    _put(connection, _VALUES, ("trial_id", "objective"), _values(key, trial))
    _put(connection, _USER, ("trial_id", "key"), _attributes(key, trial.user_attrs, before.user))
    _put(connection, _SYSTEM, ("trial_id", "key"), _attributes(key, trial.system_attrs, before.system))
    return int(key)


def _put(connection: sa.Connection, table: Any, key: Sequence[str], rows: Rows) -> None:
    if rows:
        connection.execute(upsert(connection, table, key, list(rows[0])), rows)


def _params(key: int, trial: FrozenTrial, before: _Saved) -> Rows:
    return [
        {
            "trial_id": key,
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": _as_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
        if name not in before.params
    ]


def _values(key: int, trial: FrozenTrial) -> Rows:
    # Optuna refuses NaN, and a score is finite.
    found = enumerate(trial.values or ())
    return [
        {"trial_id": key, "objective": place, "value": value, "value_type": _FINITE} for place, value in found
    ]


def _attributes(key: int, now: Mapping[str, Any], before: Mapping[str, Any]) -> Rows:
    changed = {name: value for name, value in now.items() if name not in before or before[name] != value}
    return [
        {"trial_id": key, "key": name, "value_json": json.dumps(value)} for name, value in changed.items()
    ]


def _read(connection: sa.Connection, study: int) -> Iterator[FrozenTrial]:
    """The study's trials in the order of their numbers, each table in one query."""
    columns = [_TRIALS.c[name] for name in ("trial_id", "number", "state")]
    dates = [_TRIALS.c.datetime_start, _TRIALS.c.datetime_complete]
    query = sa.select(*columns, *dates).where(_TRIALS.c.study_id == study).order_by(_TRIALS.c.number)
    # First: what another process writes meanwhile may be more, but never less, than these trials have.
    trials = list(connection.execute(query))
    params = _by_trial(connection, study, _PARAMS, _PARAMS.c.param_name, ("param_value", "distribution_json"))
    values = _by_trial(connection, study, _VALUES, _VALUES.c.objective, ("value", "value_type"))
    user, system = (_by_trial(connection, study, t, t.c.key, ("value_json",)) for t in (_USER, _SYSTEM))
    for place, (key, number, state, start, end) in enumerate(trials):
        if number != place:
            raise StudyError(f"the database is damaged: trial {place} is missing; restore a copy of it")
        genes = {name: (_from_json(text), value) for name, value, text in params.get(key, ())}
        found = [_finite(value, kind) for _, value, kind in values.get(key, ())]
        found = found if state == TrialState.COMPLETE else []
        yield FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=found or None,
            datetime_start=_local(start),
            datetime_complete=_local(end),
            params={name: gene.to_external_repr(value) for name, (gene, value) in genes.items()},
            distributions={name: gene for name, (gene, _) in genes.items()},
            user_attrs={name: json.loads(text) for name, text in user.get(key, ())},
            system_attrs={name: json.loads(text) for name, text in system.get(key, ())},
            intermediate_values={},
            trial_id=key,
        )


def _by_trial(
    connection: sa.Connection, study: int, table: Any, name: Any, columns: Sequence[str]
) -> dict[int, list[Any]]:
    """The rows of a table of trials, as (name, *columns), by the trial's key, in the order of writing."""
    order = next(iter(table.primary_key))
    query = (
        sa.select(table.c.trial_id, name, *(table.c[column] for column in columns))
        .join(_TRIALS, _TRIALS.c.trial_id == table.c.trial_id)
        .where(_TRIALS.c.study_id == study)
        .order_by(table.c.trial_id, order)
    )
    found: dict[int, list[Any]] = {}
    for key, *row in connection.execute(query):
        found.setdefault(key, []).append(row)
    return found


def _finite(value: float | None, kind: Any) -> float:
    return models.TrialValueModel.stored_repr_to_value(value, kind)


@cache
def _from_json(text: str) -> BaseDistribution:
    return json_to_distribution(text)


@cache
def _as_json(distribution: BaseDistribution) -> str:
    return distribution_to_json(distribution)


# Optuna's tables have UTC without a zone, its trials local time without a zone.


def _utc(local: datetime | None) -> datetime | None:
    return local.astimezone(UTC).replace(tzinfo=None) if local else None


def _local(utc: datetime | None) -> datetime | None:
    return utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None) if utc else None

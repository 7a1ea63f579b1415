"""A study's trials in memory are those of Optuna's own storage. A trial is written whole or not at all."""

from collections.abc import Callable
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from recipesearch.errors import StudyError
from recipesearch.plan import Plan
from recipesearch.search.run import run
from recipesearch.study import trial_storage
from recipesearch.study.storage import METADATA, Database
from recipesearch.study.trial_storage import TrialStorage, create, load
from recipesearch.workers.instant import InstantWorker

MakePlan = Callable[..., Plan]
TWO = [optuna.study.StudyDirection.MAXIMIZE] * 2


def as_optuna_reads(database: Database, name: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=database.storage).get_trials()


def comparable(trial: FrozenTrial) -> dict[str, Any]:
    seconds = (trial.datetime_start and trial.datetime_start.replace(microsecond=0)), trial.datetime_complete
    return {
        **{key: value for key, value in vars(trial).items() if not key.startswith("_datetime")},
        "params": trial.params,
        "started": seconds[0],
        "ended": bool(seconds[1]),
    }


def ask(study: optuna.Study, **marks: Any) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_float("x", -1.0, 1.0)
    trial.suggest_categorical("method", ("linear", "slerp"))
    for key, value in marks.items():
        trial.set_user_attr(key, value)
    return trial


def saved(study: optuna.Study) -> TrialStorage:
    assert isinstance(study._storage, TrialStorage)
    return study._storage


@pytest.fixture
def study(database: Database, request: pytest.FixtureRequest) -> optuna.Study:
    METADATA.create_all(database.engine)
    return create(database, request.node.name, TWO)


def test_optuna_reads_what_was_written(database: Database, study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.5, "method": "slerp"}, user_attrs={"seed": "average"})
    done = ask(study, recipe="a")
    done.set_constraint("bound", 0.25)
    saved(study).save(done.number)
    study.tell(done.number, [0.25, -3.5])
    failed = ask(study, recipe="b", notes=[1, {"deep": None}])
    study.tell(failed.number, state=TrialState.FAIL)
    saved(study).save(ask(study).number)
    study.enqueue_trial({"x": 0.0})
    for trials in (
        as_optuna_reads(database, study.study_name),
        load(database, study.study_name).get_trials(),
    ):
        assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "RUNNING", "WAITING"]
        for trial, other in zip(trials, study.get_trials(), strict=True):
            assert comparable(trial) == comparable(other)


def test_a_trial_that_was_not_saved_leaves_no_trace(database: Database, study: optuna.Study) -> None:
    ask(study)
    assert as_optuna_reads(database, study.study_name) == []
    again = ask(load(database, study.study_name))
    assert again.number == 0


def test_a_view_during_a_write_sees_whole_trials(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that ends while its rows are read is not seen as complete without values."""
    trial = ask(study, recipe="a")
    saved(study).save(trial.number)
    read = trial_storage._by_trial

    def meanwhile(connection: sa.Connection, *arguments: Any) -> Any:
        connection.rollback()  # as a reader of SQLite, which has no transaction here
        if study.get_trials()[0].state == TrialState.RUNNING:
            study.tell(trial.number, [1.0, 2.0])
        return read(connection, *arguments)

    monkeypatch.setattr(trial_storage, "_by_trial", meanwhile)
    (seen,) = load(database, study.study_name).get_trials()
    assert (seen.state, seen.values) in ((TrialState.RUNNING, None), (TrialState.COMPLETE, [1.0, 2.0]))


def test_a_missing_trial_is_noticed(database: Database, study: optuna.Study) -> None:
    for number in range(3):
        ask(study)
        saved(study).save(number)
    missing = study.get_trials()[1]._trial_id
    with database.engine.begin() as connection:
        for table in ("trial_params", "trial_user_attributes", "trial_system_attributes", "trials"):
            connection.exec_driver_sql(f"delete from {table} where trial_id = {missing}")
    with pytest.raises(StudyError, match="trial 1 is missing"):
        load(database, study.study_name)


def test_a_write_may_be_repeated(database: Database, study: optuna.Study) -> None:
    """A connection may be lost after the commit and before the answer."""
    trial = ask(study, recipe="a")
    write = database.write

    def twice(work: Callable[[sa.Connection], Any]) -> Any:
        write(work)
        return write(work)

    database.write = twice  # type: ignore[method-assign]
    saved(study).save(trial.number)
    study.tell(trial.number, [1.0, 2.0])
    (read,) = as_optuna_reads(database, study.study_name)
    assert comparable(read) == comparable(study.get_trials()[0])


def test_a_trial_is_saved_in_one_transaction(database: Database, study: optuna.Study) -> None:
    begun = 0

    def count(connection: sa.Connection) -> None:
        nonlocal begun
        begun += 1

    trial = ask(study, recipe="a")
    sa.event.listen(database.engine, "begin", count)
    saved(study).save(trial.number)
    assert begun == 1


def test_a_study_of_optunas_own_storage_goes_on(make_paper_plan: MakePlan) -> None:
    """Ids of trials are kept: NSGA-II keeps each generation's parents by id."""
    plan = make_paper_plan(search={"sampler": "nsga2", "population": 4, "trials": 20, "seed": 1})
    run(plan, open_worker=InstantWorker)
    database = Database(plan.storage_url)
    ids = [trial._trial_id for trial in as_optuna_reads(database, plan.name)]
    assert [trial._trial_id for trial in load(database, plan.name).get_trials()] == ids
    parents = database.storage.get_study_system_attrs(1)
    kept = {key for key in parents if "parent" in key}
    assert kept
    assert all(set(parents[key]) <= set(ids) for key in kept)

"""The study and its ledger: seeds breed, repeats are free, and scores of different conditions never mix."""

import fcntl
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa

from recipesearch.errors import PlanError, StudyError, TrialFailed
from recipesearch.plan import Plan
from recipesearch.score import Conditions, Measurement, Seconds, TaskScore
from recipesearch.scoring.scorer import Scorer
from recipesearch.search import run as search
from recipesearch.study.ledger import Ledger
from recipesearch.study.results import open_results
from recipesearch.study.storage import Database
from recipesearch.workers.instant import InstantWorker
from recipesearch.workers.worker import Worker

# Without a model: what is tested is the study. One test below runs the real worker.
run_here = functools.partial(search.run, open_worker=InstantWorker)

MakePlan = Callable[..., Plan]
CONDITIONS = Conditions("transformers", "cpu", 1, 64, "torch x", "float32", False)


def stored(plan: Plan) -> optuna.Study:
    return optuna.load_study(
        study_name=plan.name,
        storage=Database(plan.storage_url).storage,
        sampler=optuna.samplers.RandomSampler(),
    )


def count_scorings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    original = InstantWorker.score
    monkeypatch.setattr(
        InstantWorker, "score", lambda self, *rest, **named: calls.append(1) or original(self, *rest, **named)
    )
    return calls


def test_seeds_belong_to_generation_zero_and_become_parents(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan(search={"sampler": "nsga2", "population": 6, "trials": 18, "seed": 1})
    run_here(plan)
    study = stored(plan)
    seeds = [trial for trial in study.trials if "seed" in trial.user_attrs]
    assert {trial.user_attrs["seed"] for trial in seeds} >= {"parent math", "parent lang", "uniform average"}
    assert {trial.system_attrs["NSGAIISampler:generation"] for trial in seeds} == {0}
    parents = study._storage.get_study_system_attrs(study._study_id)["NSGAIISampler:parent:1"]
    assert {trial._trial_id for trial in seeds} & set(parents), "a seed on the front has to breed"


def test_a_recipe_known_to_the_ledger_is_answered_without_scoring(
    make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_here(make_paper_plan("first", storage="sqlite:///shared.db"))
    calls = count_scorings(monkeypatch)
    second = run_here(make_paper_plan("second", storage="sqlite:///shared.db"))
    assert not calls
    assert [row.values for row in second.rows] == [row.values for row in first.rows]


@pytest.mark.parametrize("change", [{"threads": 2}, {"dtype": "bfloat16"}])
def test_scores_of_another_engine_are_not_taken(
    make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    run_here(make_paper_plan("first", storage="sqlite:///shared.db"))
    calls = count_scorings(monkeypatch)
    engine = {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64} | change
    run_here(make_paper_plan("second", storage="sqlite:///shared.db", engine=engine))
    assert len(calls) == 12


def test_scores_of_another_gpu_are_not_taken(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db")
    one, other, old = (
        Ledger(database, replace(CONDITIONS, device="cuda", gpu=gpu)) for gpu in ("NVIDIA H200", "L4", "")
    )
    one.commit("recipe", "yaml", [TaskScore("task", {"acc": Measurement(0.5, 0.1)}, {})], Seconds(0, 0))
    assert set(one.metrics("recipe", ["task"])) == {"task"}
    assert other.metrics("recipe", ["task"]) == old.metrics("recipe", ["task"]) == {}


def test_every_key_has_one_row_and_every_item_is_kept(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan()
    results = run_here(plan)
    engine = Database(plan.storage_url).engine
    with engine.connect() as connection:
        rows = connection.scalar(sa.text("select count(*) from recipesearch_scores"))
        items = connection.scalar(sa.text("select sum(stop - start) from recipesearch_blocks"))
    assert rows == 2 * len(results.scored)
    assert items == 40 * rows
    task = results.identity["objectives"][0]["task"]
    row = results.scored[0]
    assert row.recipe is not None
    assert row.values is not None
    kept = [item["exact_match"] for item in results.ledger.items(row.recipe, task).values()]
    assert sum(kept) / len(kept) == pytest.approx(row.values[0].value)


def test_a_key_keeps_its_first_row(tmp_path: Any) -> None:
    """Another study in the same database, or another process, may have been first."""
    ledger = Ledger(Database(f"sqlite:///{tmp_path}/x.db"), CONDITIONS)
    score = TaskScore("task", {"acc": Measurement(0.5, 0.1)}, {"0": {"acc": 1}})
    ledger.commit("recipe", "yaml", [score], Seconds(0, 0))
    other = replace(score, metrics={"acc": Measurement(0.9, 0.1)}, items={"0": {"acc": 0}})
    more = replace(score, task_hash="more")
    ledger.commit("recipe", "yaml", [other, more], Seconds(0, 0))
    metrics = ledger.metrics("recipe", ["task", "more"])
    assert metrics["task"]["acc"].value == 0.5
    assert set(metrics) == {"task", "more"}
    assert ledger.items("recipe", "task") == {"0": {"acc": 1}}


def test_a_study_takes_what_another_with_fewer_tasks_has_scored(
    make_paper_plan: MakePlan,
) -> None:
    goals = [{"task": f"{name}_search.yaml", "metric": "exact_match"} for name in ("addition_b", "reading_b")]
    first = run_here(make_paper_plan("first", storage="sqlite:///shared.db", objectives=goals[:1]))
    second = run_here(make_paper_plan("second", storage="sqlite:///shared.db", objectives=goals))
    assert len(first.scored) == len(second.scored) == 12


def test_a_commit_that_fails_half_way_leaves_nothing(tmp_path: Any) -> None:
    ledger = Ledger(Database(f"sqlite:///{tmp_path}/x.db"), CONDITIONS)
    good = TaskScore("good", {"acc": Measurement(0.5, 0.1)}, {"0": {"acc": 1}})
    bad = TaskScore("bad", {"acc": Measurement(0.5, 0.1)}, {"0": {"acc": object()}})
    with pytest.raises(TypeError, match="not JSON"):
        ledger.commit("recipe", "yaml", [good, bad], Seconds(0, 0))
    assert ledger.metrics("recipe", ["good", "bad"]) == {}
    assert ledger.yaml("recipe") is None


def test_a_second_runner_is_refused(make_paper_plan: MakePlan, postgres: str) -> None:
    for url in (make_paper_plan().storage_url, postgres):
        with Database(url).sole_runner("study"):
            other = Database(url).sole_runner("study")
            with pytest.raises(StudyError, match="another process"), other:
                pass
        with Database(url).sole_runner("study"):
            pass  # free again


def test_a_lock_leaves_nothing_where_no_study_was_begun(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan()
    database = Database(plan.storage_url)
    before = set(plan.folder.iterdir())
    with database.sole_runner("study"):
        assert set(plan.folder.iterdir()) > before
    assert set(plan.folder.iterdir()) == before


def test_a_lock_that_another_run_has_just_removed_is_not_taken(
    make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes could hold the study: one its file, the other a new file of the same name."""
    database = Database(make_paper_plan().storage_url)
    lock = fcntl.flock

    def slowly(handle: int, how: int) -> None:
        Path(f"/proc/self/fd/{handle}").readlink().unlink()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", slowly)
    with pytest.raises(StudyError, match="another process"), database.sole_runner("study"):
        pass


def test_a_changed_space_is_refused_with_the_difference(make_paper_plan: MakePlan) -> None:
    run_here(make_paper_plan())
    space = {"weights": {"methods": ["linear", "slerp"], "layer_groups": 2, "weight": [0.0, 1.0]}}
    with pytest.raises(PlanError, match=r"weight.*1\.5.*1\.0") as refusal:
        run_here(make_paper_plan(space=space))
    assert "another name" in str(refusal.value)


def test_changed_parents_are_refused(make_paper_plan: MakePlan, paper_parents: dict[str, str]) -> None:
    run_here(make_paper_plan())
    with pytest.raises(PlanError, match=r"parents\.lang was"):
        run_here(make_paper_plan(parents={"math": paper_parents["math"], "lang": paper_parents["base"]}))


def test_failures_keep_their_cause_and_never_reach_the_front(
    make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = InstantWorker.score, []

    def sometimes(self: InstantWorker, *rest: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) % 3 == 0:
            raise TrialFailed("non-finite: the merge gives NaN")
        return original(self, *rest, **more)

    monkeypatch.setattr(InstantWorker, "score", sometimes)
    plan = make_paper_plan()
    results = run_here(plan)
    failed = [row for row in results.rows if row.state == "fail"]
    assert failed
    assert all(row.cause == "non-finite: the merge gives NaN" and row.values is None for row in failed)
    assert len(results.scored) == 12, "failed recipes do not count as scored"
    assert not {row.number for row in results.front} & {row.number for row in failed}


def test_a_study_in_which_everything_fails_stops_and_says_why(
    make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: InstantWorker, *rest: Any, **more: Any) -> Any:
        raise TrialFailed("out of memory")

    monkeypatch.setattr(InstantWorker, "score", never)
    with pytest.raises(StudyError, match=r"10 of the last 10 candidates failed.*out of memory"):
        run_here(make_paper_plan())


def test_a_space_that_is_used_up_ends_with_a_message(
    make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipesearch.study.study._REPEATS_IN_A_ROW", 20)
    space = {"weights": {"methods": ["linear"], "weight": [0.0, 0.0001]}}
    with pytest.raises(StudyError, match="used up"):
        run_here(make_paper_plan(space=space))


def test_recipes_that_another_study_has_scored_do_not_count_as_repeats(
    make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(make_paper_plan("first", storage="sqlite:///shared.db"))
    monkeypatch.setattr("recipesearch.study.study._REPEATS_IN_A_ROW", 5)
    assert len(run_here(make_paper_plan("second", storage="sqlite:///shared.db")).scored) == 12


def test_held_out_scores_cover_front_and_seeds_and_stay_out_of_the_search(
    make_paper_plan: MakePlan,
) -> None:
    plain = run_here(make_paper_plan("plain"))
    held_out = ["addition_b_held_out.yaml", "reading_b_held_out.yaml"]
    plan = make_paper_plan("with", held_out=held_out)
    results = run_here(plan)
    assert [row.recipe for row in results.rows] == [row.recipe for row in plain.rows]
    assert all(row.held_out is not None for row in [*results.front, *(r for r in results.scored if r.seed)])
    assert open_results(Database(plan.storage_url), plan.name)[1].front == results.front


def test_a_scalarised_study_keeps_its_objectives_apart(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan(
        space={"weights": {"methods": ["linear"], "layer_groups": 2}},
        search={"sampler": "cmaes", "trials": 8, "seed": 1, "scalarize": [0.75, 0.25]},
    )
    results = run_here(plan)
    for trial, row in zip(stored(plan).trials, results.rows, strict=True):
        assert row.values is not None
        assert trial.values == [pytest.approx(0.75 * row.values[0].value + 0.25 * row.values[1].value)]


def test_sqlite_lets_readers_in_while_it_runs(make_paper_plan: MakePlan) -> None:
    with Database(make_paper_plan().storage_url).engine.connect() as connection:
        assert connection.scalar(sa.text("pragma journal_mode")) == "wal"
        assert connection.scalar(sa.text("pragma synchronous")) == 1


def test_storage_that_cannot_be_reached_is_named_without_its_password() -> None:
    """Whether the tables or the lock are the first to need it."""
    database = Database("postgresql+psycopg://user:secret@127.0.0.1:1/none")
    for reach in (lambda: database.storage, lambda: database.sole_runner("study").__enter__()):
        with pytest.raises(StudyError, match=r"cannot open the study's storage") as refusal:
            reach()
        assert "127.0.0.1" in str(refusal.value)
        assert "secret" not in str(refusal.value)


def test_the_plan_is_stored_with_the_study(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan()
    run_here(plan)
    loaded, _ = open_results(Database(plan.storage_url))
    assert loaded.storage_url == plan.storage_url
    without = {"storage"}
    assert loaded.model_dump(exclude=without) == plan.model_dump(exclude=without)


def test_the_storage_and_its_password_are_not_stored(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan()
    run_here(plan)
    assert "storage" not in stored(plan).user_attrs["plan"]


def test_a_study_of_the_same_name_by_another_tool_is_left_alone(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan()
    other = optuna.create_study(study_name=plan.name, storage=Database(plan.storage_url).storage)
    other.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    with pytest.raises(StudyError, match="did not create"):
        run_here(plan)


def test_looking_creates_nothing(tmp_path: Any) -> None:
    with pytest.raises(StudyError, match="no study database"):
        open_results(Database(f"sqlite:///{tmp_path}/absent.db"))
    foreign = sa.create_engine(f"sqlite:///{tmp_path}/foreign.db")
    with foreign.begin() as connection:
        connection.execute(sa.text("create table mine (x int)"))
    with pytest.raises(StudyError, match="no study of recipesearch"):
        open_results(Database(f"sqlite:///{tmp_path}/foreign.db"))
    assert sa.inspect(foreign).get_table_names() == ["mine"]
    with sa.create_engine(f"sqlite:///{tmp_path}/begun.db").begin() as connection:
        connection.execute(sa.text("create table studies (x int)"))  # a runner at work on its tables
    with pytest.raises(StudyError, match="no study of recipesearch"):
        open_results(Database(f"sqlite:///{tmp_path}/begun.db"))
    assert sa.inspect(sa.create_engine(f"sqlite:///{tmp_path}/begun.db")).get_table_names() == ["studies"]
    (tmp_path / "text.db").write_text("no database " * 99)
    with pytest.raises(StudyError, match="not a readable database"):
        open_results(Database(f"sqlite:///{tmp_path}/text.db"))


def test_what_a_library_raises_is_the_candidates_failure(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = Scorer.score, []

    def sometimes(self: Scorer, lm: Any, *rest: Any) -> list[TaskScore]:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("CUDA out of memory\nand more")
        return original(self, lm, *rest)

    monkeypatch.setattr(Scorer, "score", sometimes)
    results = search.run(make_plan(), open_worker=Worker)
    assert [row.cause for row in results.rows if row.cause] == ["out of memory: CUDA out of memory"]
    assert len(results.scored) == 12


def test_a_held_out_task_that_the_search_asks_is_refused(
    make_plan: MakePlan, small_tasks: dict[str, str]
) -> None:
    tasks = [small_tasks["addition_b_search"], small_tasks["reading_b_held_out"]]
    with pytest.raises(PlanError, match="has the same items as a search task"):
        search.run(make_plan(held_out=tasks), open_worker=Worker)


def test_parents_in_another_order_are_another_study(
    make_paper_plan: MakePlan, paper_parents: dict[str, str]
) -> None:
    """Recipes keep the order, and without a base the first parent gives config and tokenizer."""
    run_here(make_paper_plan(search={"trials": 2, "population": 4, "sampler": "random"}))
    with pytest.raises(PlanError, match="order was math, lang, now lang, math"):
        run_here(
            make_paper_plan(
                parents={name: paper_parents[name] for name in ("lang", "math")},
                search={"trials": 2, "population": 4, "sampler": "random"},
            )
        )


def test_a_space_that_is_used_up_still_gets_its_held_out_scores(
    make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipesearch.study.study._REPEATS_IN_A_ROW", 20)
    held_out = ["addition_b_held_out.yaml", "reading_b_held_out.yaml"]
    space = {"weights": {"methods": ["karcher"], "parents": "subset"}}
    plan = make_paper_plan(space=space, held_out=held_out, search={"trials": 50, "population": 4})
    with pytest.raises(StudyError, match="used up after 3 recipes"):
        run_here(plan)
    _, results = open_results(Database(plan.storage_url), plan.name)
    assert len(results.scored) == 3
    assert all(row.held_out for row in results.front)

"""A study survives any interruption: nothing finished is lost, and it becomes what it would have been."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from recipesearch.engines.transformers import TransformersEngine
from recipesearch.plan import Plan
from recipesearch.scoring.scorer import Scorer
from recipesearch.search import run as search
from recipesearch.study.ledger import Ledger
from recipesearch.study.results import Results
from recipesearch.study.study import Study
from recipesearch.study.trial_ends import TrialEnds
from recipesearch.study.trial_storage import TrialStorage
from recipesearch.workers.instant import InstantWorker
from recipesearch.workers.worker import Worker

# Without a model: what is tested is the study. Two stages are also interrupted in the real worker.
run_here = functools.partial(search.run, open_worker=InstantWorker)

Stage = tuple[object, str]
Run = Callable[[Plan], Results]

STAGES: dict[str, Stage] = {
    "asking, between two genes": (optuna.Trial, "suggest_float"),
    "the recipe known, nothing scored": (Study, "_answered"),
    "scoring": (InstantWorker, "score"),
    "scored, not committed": (Ledger, "commit"),
    "saving the trial": (TrialStorage, "save"),
    "committed, Optuna not told": (TrialEnds, "complete"),
    "telling Optuna": (optuna.Study, "tell"),
}


REAL_STAGES: dict[str, Stage] = {
    "loading the merge": (TransformersEngine, "load"),
    "asking the model": (Scorer, "score"),
}


def history(results: Results) -> list[tuple[Any, ...]]:
    """What has to be equal: recipes, genes, values and states, in order."""
    return [(row.number, row.state, row.recipe, dict(row.genome), row.values) for row in results.rows]


def run_interrupted(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, stage: Stage, at_call: int, run: Run = run_here
) -> None:
    """A run that ends by interruption at a stage."""
    with monkeypatch.context() as patch:
        interrupt(patch, stage, at_call)
        with pytest.raises(KeyboardInterrupt):
            run(plan)


def interrupt(monkeypatch: pytest.MonkeyPatch, stage: Stage, at_call: int) -> None:
    """Lets the ``at_call``-th call at a stage raise what Ctrl-C raises, once."""
    owner, name = stage
    original, calls = getattr(owner, name), 0

    def interrupted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, list[tuple[Any, ...]]]:
    return {}


@pytest.mark.parametrize("stage", STAGES)
def test_interrupted_at_any_stage_it_becomes_the_same_study(
    stage: str,
    make_paper_plan: Callable[..., Plan],
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[str, list[tuple[Any, ...]]],
) -> None:
    if not uninterrupted:
        uninterrupted["rows"] = history(run_here(make_paper_plan("plain")))
    plan = make_paper_plan("cut")
    for at_call in (3, 8):
        run_interrupted(monkeypatch, plan, STAGES[stage], at_call)
    results = run_here(plan)
    assert history(results) == uninterrupted["rows"]
    assert len(results.scored) == 12


@pytest.mark.parametrize("stage", REAL_STAGES)
def test_interrupted_in_the_real_worker_it_becomes_the_same_study(
    stage: str, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = functools.partial(search.run, open_worker=Worker)
    small = {"search": {"sampler": "nsga2", "population": 4, "trials": 6, "seed": 1}}
    whole = history(run(make_plan("plain", **small)))
    plan = make_plan("cut", **small)
    for at_call in (2, 4):
        run_interrupted(monkeypatch, plan, REAL_STAGES[stage], at_call, run)
    assert history(run(plan)) == whole


@pytest.mark.parametrize("sampler", ["cmaes", "tpe", "random"])
def test_every_sampler_resumes_exactly(
    sampler: str, make_paper_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "space": {"weights": {"methods": ["linear"], "layer_groups": 2}},
        "search": {"sampler": sampler, "trials": 14, "seed": 5, "scalarize": [0.5, 0.5]},
    }
    whole = history(run_here(make_paper_plan("whole", **changes)))
    plan = make_paper_plan("cut", **changes)
    for at_call in (2, 5):
        run_interrupted(monkeypatch, plan, STAGES["scoring"], at_call)
    assert history(run_here(plan)) == whole


def test_a_resumed_study_does_not_score_again_what_the_ledger_holds(
    make_paper_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirteen recipes are wanted, and twelve are there."""
    run_here(make_paper_plan())
    calls: list[int] = []
    score = InstantWorker.score
    monkeypatch.setattr(
        InstantWorker, "score", lambda self, *rest, **more: calls.append(1) or score(self, *rest)
    )
    more = make_paper_plan(search={"sampler": "nsga2", "population": 4, "trials": 13, "seed": 1})
    assert len(run_here(more).scored) == 13
    assert len(calls) == 1


def test_trials_is_a_total(make_paper_plan: Callable[..., Plan]) -> None:
    assert len(run_here(make_paper_plan(search={"population": 4, "trials": 5, "seed": 1})).scored) == 5
    assert len(run_here(make_paper_plan(search={"population": 4, "trials": 9, "seed": 1})).scored) == 9


def test_an_interrupted_queue_of_seeds_is_completed(
    make_paper_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = history(run_here(make_paper_plan("whole")))
    plan = make_paper_plan("cut")
    run_interrupted(monkeypatch, plan, (optuna.Study, "enqueue_trial"), 2)
    assert history(run_here(plan)) == whole


def test_the_same_plan_gives_the_same_study_on_postgresql(
    make_paper_plan: Callable[..., Plan], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = history(run_here(make_paper_plan("whole")))
    plan = make_paper_plan("on-postgres", storage=postgres)
    for stage in ("scored, not committed", "committed, Optuna not told"):
        run_interrupted(monkeypatch, plan, STAGES[stage], 4)
    assert history(run_here(plan)) == whole


def test_a_study_file_may_move_with_its_database(
    make_paper_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = make_paper_plan()
    before = history(run_here(plan))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in [*tmp_path.glob("study.*")]:
        file.rename(moved / file.name)
    from recipesearch.plan import load_plan

    assert history(run_here(load_plan(moved / "study.yaml"))) == before

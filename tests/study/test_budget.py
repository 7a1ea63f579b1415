"""Few items for every candidate, and limits on recipes, items and hours."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from recipesearch.errors import PlanError
from recipesearch.plan import Plan
from recipesearch.score import Seconds
from recipesearch.search import run as search
from recipesearch.study.results import Results
from recipesearch.workers.instant import ITEMS, InstantWorker

run_here = functools.partial(search.run, open_worker=InstantWorker)
MakePlan = Callable[..., Plan]
SEARCH = {"sampler": "merge_gp", "trials": 14, "seed": 1}


def known(results: Results) -> list[int]:
    """The number of known items of each scored recipe, of both tasks together."""
    items = results.ledger.known([goal.hash for goal in results.goals])
    return [sum(items[str(row.recipe)].values()) for row in results.scored]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The parts that the worker is asked for."""
    asked: list[Any] = []
    original = InstantWorker.score

    def score(self: InstantWorker, recipe: Any, held_out: bool = False, part: Any = None) -> Any:
        asked.append(part)
        return original(self, recipe, held_out, part)

    monkeypatch.setattr(InstantWorker, "score", score)
    return asked


def test_every_candidate_is_scored_on_the_same_few_items_first(
    make_paper_plan: MakePlan, parts: list[Any]
) -> None:
    results = run_here(make_paper_plan(search=SEARCH | {"items": 10}))
    assert len(results.scored) == 14
    assert parts[:14] == [(0, 10)] * 14
    assert all(part[0] >= 10 for part in parts[14:]), "later parts continue where the first part ended"


def test_settling_the_front_costs_a_quarter_of_the_search_at_most(make_paper_plan: MakePlan) -> None:
    results = run_here(make_paper_plan(search=SEARCH | {"items": 10}))
    searched = 14 * 2 * 10
    further = sum(known(results)) - searched
    assert 0 < further <= 0.25 * searched + 8 * 2 * 10, "one round may be begun below the limit"
    assert max(known(results)) > 20


def test_without_items_recipes_are_scored_whole_and_nothing_is_scored_further(
    make_paper_plan: MakePlan, parts: list[Any]
) -> None:
    results = run_here(make_paper_plan(search=SEARCH))
    assert parts == [None] * 14
    assert set(known(results)) == {2 * ITEMS}


def test_more_items_than_a_task_has_are_all_items(make_paper_plan: MakePlan, parts: list[Any]) -> None:
    run_here(make_paper_plan(search=SEARCH | {"items": 1000}))
    assert parts == [None] * 14


def test_a_score_on_fewer_items_than_wanted_is_completed(make_paper_plan: MakePlan) -> None:
    """The second study shares the ledger, but takes no recipe for known that has only some of its items."""
    storage = "sqlite:///shared.db"
    run_here(make_paper_plan("few", search=SEARCH | {"items": 5}, storage=storage))
    results = run_here(make_paper_plan("many", search=SEARCH | {"items": 20}, storage=storage))
    assert min(known(results)) >= 2 * 20


def test_max_items_ends_the_search(make_paper_plan: MakePlan) -> None:
    results = run_here(make_paper_plan(search=SEARCH | {"max_items": 6 * 2 * ITEMS}))
    assert len(results.scored) == 6


def test_hours_end_the_search(make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    original = InstantWorker.score
    monkeypatch.setattr(
        InstantWorker, "score", lambda *rest, **named: (original(*rest, **named)[0], Seconds(600, 600))
    )
    results = run_here(make_paper_plan(search=SEARCH | {"hours": 2.9}))
    assert len(results.scored) == 9  # of a third of an hour each


@pytest.mark.parametrize("limit", [{"max_items": 6 * 2 * ITEMS}, {"items": 10}])
def test_a_finished_study_starts_no_worker(make_paper_plan: MakePlan, limit: dict[str, Any]) -> None:
    plan = make_paper_plan(search=SEARCH | limit)
    before = run_here(plan)

    def never(order: Any) -> Any:
        raise AssertionError("no worker is needed")

    after = search.run(plan, open_worker=never)
    assert [row.standing for row in after.rows] == [row.standing for row in before.rows]


def test_a_raised_limit_continues_the_study(make_paper_plan: MakePlan) -> None:
    run_here(make_paper_plan(search=SEARCH | {"max_items": 6 * 2 * ITEMS}))
    results = run_here(make_paper_plan(search=SEARCH | {"max_items": 8 * 2 * ITEMS}))
    assert len(results.scored) == 8


def test_items_need_the_sampler_that_pools_scores(make_paper_plan: MakePlan) -> None:
    with pytest.raises(PlanError, match=r"search\.items needs the sampler merge_gp"):
        run_here(make_paper_plan(search={"sampler": "tpe", "items": 10}))


def test_studies_of_earlier_versions_keep_their_identity(make_paper_plan: MakePlan) -> None:
    """Keys that are not set are not part of what may not change."""
    results = run_here(make_paper_plan(search=SEARCH))
    assert not {"items", "max_items", "hours"} & results.identity["search"].keys()


def test_an_interrupted_settling_goes_on(make_paper_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    search_ = SEARCH | {"items": 10}
    whole = run_here(make_paper_plan("whole", search=search_))
    plan, original, calls = make_paper_plan("cut", search=search_), InstantWorker.score, []

    def score(*rest: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 16:
            raise KeyboardInterrupt
        return original(*rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(InstantWorker, "score", score)
        with pytest.raises(KeyboardInterrupt):
            run_here(plan)
    resumed = run_here(plan)
    assert [replace(row, number=0) for row in resumed.rows] == [replace(row, number=0) for row in whole.rows]

"""The worker without a model: the same scores everywhere, goals that disagree, merges better than parents."""

from collections.abc import Callable

import pytest

from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import worker_order
from recipesearch.plan import Plan
from recipesearch.search.run import run
from recipesearch.space.seeds import seeds
from recipesearch.workers.instant import ITEMS, InstantWorker

MakePlan = Callable[..., Plan]


def test_a_recipe_scores_the_same_in_every_worker(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan(held_out=["unseen_a.yaml", "unseen_b.yaml"])
    checked = preflight(plan)
    order, by_label = worker_order(checked), dict(seeds(checked.space))
    recipe = checked.space.express(by_label["uniform average"])
    (scores, _), (again, _) = (InstantWorker(order).score(recipe) for _ in range(2))
    assert scores == again
    unseen, _ = InstantWorker(order).score(recipe, True)
    assert {score.task_hash for score in scores} & {score.task_hash for score in unseen} == set()
    for score in scores:
        mean = sum(float(str(item["exact_match"])) for item in score.items.values()) / ITEMS
        assert score.metrics["exact_match"].value == pytest.approx(mean)


def test_parts_have_the_items_of_the_whole(make_paper_plan: MakePlan) -> None:
    """A function has no parts, and comes with the first."""
    function = {"function": "own:brevity"}
    plan = make_paper_plan(objectives=[{"task": "a.yaml", "metric": "acc"}, function])
    checked = preflight(plan)
    worker = InstantWorker(worker_order(checked))
    recipe = checked.space.express(dict(seeds(checked.space))["uniform average"])
    assert [(goal.items, goal.pooled) for goal in worker.ready.goals] == [(ITEMS, True), (ITEMS, False)]
    (whole, of_function), _ = worker.score(recipe)
    (first, once), _ = worker.score(recipe, part=(0, 15))
    (rest,), _ = worker.score(recipe, part=(15, 99))
    assert once == of_function
    assert len(first.items) == first.metrics["acc"].items == 15
    assert (first.start, rest.start, rest.of) == (0, 15, ITEMS)
    assert {**first.items, **rest.items} == whole.items
    assert worker.score(recipe, part=(0, ITEMS)) == worker.score(recipe)
    assert worker.score(recipe, part=(ITEMS, 99))[0] == []


def test_a_study_over_instant_scores_has_a_front_of_merges(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan(search={"trials": 40, "population": 8, "seed": 1})
    results = run(plan, open_worker=InstantWorker)
    parents = [results.loss(row) for row in results.scored if str(row.seed).startswith("parent")]
    front = [results.loss(row) for row in results.front]
    assert len(parents) == 2
    assert len(set(front)) > 1, "the goals disagree"
    for place in range(2):
        assert min(loss[place] for loss in front) < min(loss[place] for loss in parents)


def test_there_is_no_model_to_mine(make_paper_plan: MakePlan) -> None:
    with (
        InstantWorker(worker_order(preflight(make_paper_plan()))) as worker,
        pytest.raises(NotImplementedError, match="no model to mine"),
    ):
        worker.mine(None, [], None)  # type: ignore[arg-type]

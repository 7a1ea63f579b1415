"""Several workers: exact budgets, no recipe twice, nothing lost by an interruption or a failing worker."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from recipesearch.errors import SpaceUsedUp, TrialFailed
from recipesearch.plan import Plan
from recipesearch.recipe import Recipe
from recipesearch.search import run as search
from recipesearch.study.results import Results, open_results
from recipesearch.study.storage import Database
from recipesearch.workers.instant import InstantWorker
from recipesearch.workers.order import WorkerOrder

MakePlan = Callable[..., Plan]
ENGINE = {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64, "workers": 6}
ONE_NUMBER = ["cmaes", "sep_cmaes", "catcmawm", "pycma"]


class Uneven(InstantWorker):
    """Takes a few random milliseconds for each recipe, and counts how often each recipe was scored."""

    scored: ClassVar[Counter[str]]

    def __init__(self, order: WorkerOrder) -> None:
        super().__init__(order)
        self._chance = random.Random(order.slot)

    def score(self, recipe: Recipe, *arguments: Any, **keywords: Any) -> Any:
        self.scored[recipe.digest] += 1  # one key is counted by one thread, unless it is scored twice
        time.sleep(self._chance.uniform(0.0, 0.02))
        return super().score(recipe, *arguments, **keywords)


@pytest.fixture
def uneven() -> type[Uneven]:
    return type("Uneven", (Uneven,), {"scored": Counter()})


def states(results: Results) -> Counter[str]:
    return Counter(row.state for row in results.rows)


def require_sound(plan: Plan, results: Results, trials: int) -> None:
    """Exact totals, consecutive numbers, no recipe twice, one ledger row for each key, nothing running."""
    assert len(results.scored) == trials
    assert [row.number for row in results.rows] == list(range(len(results.rows)))
    assert not {"running", "waiting"} & set(states(results))
    with Database(plan.storage_url).engine.connect() as connection:
        keys = connection.execute(
            sa.text("select recipe, task, count(*) from recipesearch_scores group by 1, 2")
        )
        assert {count for *_, count in keys} == {1}


@pytest.mark.parametrize("sampler", ["random", "nsga2", "nsga3", "tpe", "merge_gp", *ONE_NUMBER])
def test_budgets_are_exact_and_no_recipe_is_scored_twice(
    make_paper_plan: MakePlan, uneven: type[Uneven], sampler: str
) -> None:
    settings: dict[str, Any] = {"sampler": sampler, "population": 4, "trials": 30, "seed": 1}
    methods = ["linear", "slerp"] if sampler not in ONE_NUMBER or sampler == "catcmawm" else ["linear"]
    if sampler in ONE_NUMBER:
        settings["scalarize"] = [0.5, 0.5]
    space = {"weights": {"methods": methods, "layer_groups": 2}}
    plan = make_paper_plan(search=settings, space=space, engine=ENGINE)
    results = search.run(plan, open_worker=uneven)
    require_sound(plan, results, 30)
    assert set(uneven.scored.values()) == {1}


@pytest.mark.parametrize("limit", [{"max_items": 800}, {"trials": 10}])
def test_recipes_in_flight_count_for_the_budget(
    make_paper_plan: MakePlan, uneven: type[Uneven], limit: dict[str, int]
) -> None:
    plan = make_paper_plan(search={"sampler": "random", "trials": 40, "seed": 1, **limit}, engine=ENGINE)
    results = search.run(plan, open_worker=uneven)
    require_sound(plan, results, 10)  # of 80 items each


def test_bounds_relative_to_the_parents_wait_for_the_parents(make_paper_plan: MakePlan) -> None:
    """The first parent takes longest, and every later trial is told with the bound of both."""
    started = threading.Event()

    class SlowParent(InstantWorker):
        def score(self, recipe: Recipe, *arguments: Any, **keywords: Any) -> Any:
            if not started.is_set():
                started.set()
                time.sleep(0.3)
            return super().score(recipe, *arguments, **keywords)

    objectives = [{"task": f"{name}.yaml", "metric": "acc", "within": 0.05} for name in ("a", "b")]
    changes: dict[str, Any] = {"objectives": objectives, "engine": ENGINE}
    plan = make_paper_plan(search={"sampler": "tpe", "trials": 20, "seed": 1}, **changes)
    results = search.run(plan, open_worker=SlowParent)
    require_sound(plan, results, 20)
    parents = [row.values for row in results.rows if str(row.seed).startswith("parent")]
    best = [max(values[place].value for values in parents if values) for place in range(2)]
    (study,) = Database(plan.storage_url).storage.get_all_studies()
    for trial in Database(plan.storage_url).storage.get_all_trials(study._study_id):
        missed = [0.95 * most - value for most, value in zip(best, trial.values, strict=True)]
        assert list(trial.constraints.values()) == pytest.approx(missed)


def test_a_space_that_is_used_up_ends_after_the_recipes_in_flight(
    make_paper_plan: MakePlan, uneven: type[Uneven]
) -> None:
    """A proposal that is in flight already is no second score of the same recipe."""
    space = {"weights": {"methods": ["karcher"], "parents": "subset"}}
    plan = make_paper_plan(search={"sampler": "random", "trials": 9, "seed": 1}, space=space, engine=ENGINE)
    with pytest.raises(SpaceUsedUp):
        search.run(plan, open_worker=uneven)
    _, results = open_results(Database(plan.storage_url))
    require_sound(plan, results, 3)
    assert set(uneven.scored.values()) == {1}


def test_trials_in_flight_at_an_interruption_are_finished_under_their_numbers(
    make_paper_plan: MakePlan, uneven: type[Uneven]
) -> None:
    plan = make_paper_plan(
        search={"sampler": "nsga2", "population": 4, "trials": 24, "seed": 1}, engine=ENGINE
    )

    class Interrupted(uneven):  # type: ignore[misc, valid-type]
        def score(self, recipe: Recipe, *arguments: Any, **keywords: Any) -> Any:
            if len(uneven.scored) == 10:
                raise KeyboardInterrupt
            return super().score(recipe, *arguments, **keywords)

    with pytest.raises(KeyboardInterrupt):
        search.run(plan, open_worker=Interrupted)
    _, cut = open_results(Database(plan.storage_url))
    flying = {row.number: row.genome for row in cut.rows if row.state == "running"}
    assert len(flying) > 1
    results = search.run(plan, open_worker=uneven)
    require_sound(plan, results, 24)
    assert {number: results.rows[number].genome for number in flying} == flying
    assert all(results.rows[number].state == "complete" for number in flying)


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_among_repeats_leaves_no_gap_in_the_numbers(make_paper_plan: MakePlan, seed: int) -> None:
    """In a small space many proposals are in flight already."""

    class Killed(InstantWorker):
        left = 6

        def score(self, recipe: Recipe, *arguments: Any, **keywords: Any) -> Any:
            type(self).left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            time.sleep(0.01)
            return super().score(recipe, *arguments, **keywords)

    space = {"weights": {"methods": ["karcher", "linear"], "parents": "subset"}}
    settings = {"sampler": "random", "trials": 12, "seed": seed}
    plan = make_paper_plan(search=settings, space=space, engine=ENGINE)
    with pytest.raises(KeyboardInterrupt):
        search.run(plan, open_worker=Killed)
    require_sound(plan, search.run(plan, open_worker=InstantWorker), 12)


@pytest.mark.parametrize("workers", [1, 6])
def test_a_limit_below_the_number_of_parents_ends_with_bounds_too(
    make_paper_plan: MakePlan, workers: int
) -> None:
    objectives = [{"task": "a.yaml", "metric": "acc", "within": 0.05}]
    settings = {"sampler": "tpe", "trials": 1, "seed": 1}
    plan = make_paper_plan(search=settings, objectives=objectives, engine={**ENGINE, "workers": workers})
    results = search.run(plan, open_worker=InstantWorker)
    assert len(results.scored) == 1
    assert "running" not in states(results)


def test_settling_keeps_its_limit_and_survives_a_kill(make_paper_plan: MakePlan) -> None:
    settings = {"sampler": "merge_gp", "trials": 14, "seed": 1, "items": 10}
    items = Counter[bool]()

    class Counted(InstantWorker):
        def score(self, recipe: Recipe, held_out: bool = False, part: Any = None) -> Any:
            time.sleep(0.002)
            items[bool(part and part[0])] += 1
            return super().score(recipe, held_out, part)

    whole = search.run(make_paper_plan("whole", search=settings, engine=ENGINE), open_worker=Counted)
    assert items[False] == 14
    assert 0 < items[True] <= 14 * 0.25 + 1
    assert all(row.standing for row in whole.scored)

    class Killed(Counted):
        def score(self, recipe: Recipe, held_out: bool = False, part: Any = None) -> Any:
            if part and part[0]:
                raise KeyboardInterrupt
            return super().score(recipe, held_out, part)

    plan = make_paper_plan("cut", search=settings, engine=ENGINE)
    with pytest.raises(KeyboardInterrupt):
        search.run(plan, open_worker=Killed)
    _, cut = open_results(Database(plan.storage_url))
    assert not any(row.standing for row in cut.scored), "the search has not ended"
    assert all(row.standing for row in search.run(plan, open_worker=Counted).scored)


def test_a_worker_that_fails_costs_its_own_trial_only(make_paper_plan: MakePlan) -> None:
    class Broken(InstantWorker):
        def __init__(self, order: WorkerOrder) -> None:
            super().__init__(order)
            self._left = 2 if order.slot == 3 else 0

        def score(self, recipe: Recipe, *arguments: Any, **keywords: Any) -> Any:
            self._left -= 1
            if self._left >= 0:
                raise TrialFailed("out of memory")
            return super().score(recipe, *arguments, **keywords)

    plan = make_paper_plan(search={"sampler": "random", "trials": 20, "seed": 1}, engine=ENGINE)
    results = search.run(plan, open_worker=Broken)
    require_sound(plan, results, 20)
    assert states(results)["fail"] == 2


def test_held_out_items_are_scored_by_all_workers(make_paper_plan: MakePlan, uneven: type[Uneven]) -> None:
    search_plan = {"sampler": "random", "trials": 12, "seed": 1}
    plan = make_paper_plan(search=search_plan, held_out=["unseen_a.yaml", "unseen_b.yaml"], engine=ENGINE)
    results = search.run(plan, open_worker=uneven)
    assert all(row.held_out for row in results.reported)


def test_one_worker_gives_the_same_study_twice(make_paper_plan: MakePlan) -> None:
    """With more workers the order of arrival decides."""
    plans = [make_paper_plan(name, engine={**ENGINE, "workers": 1}) for name in ("one", "two")]
    one, other = ([dict(row.genome) for row in search.run(p, open_worker=InstantWorker).rows] for p in plans)
    assert one == other


def test_progress_shows_the_workers(make_paper_plan: MakePlan, uneven: type[Uneven]) -> None:
    seen: list[search.Progress] = []
    plan = make_paper_plan(search={"sampler": "random", "trials": 12, "seed": 1}, engine=ENGINE)
    search.run(plan, lambda progress: seen.append(replace(progress)), open_worker=uneven)
    assert {progress.workers for progress in seen} == {6}
    assert seen[-1].scored == 12
    assert 0 < seen[-1].utilisation <= 1

"""What a model says at the end of a search: standings, the front by posterior means, and effects."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recipesearch import pareto
from recipesearch.plan import Plan
from recipesearch.report.rows import effect_rows, front_rows, status_data
from recipesearch.search import run as search
from recipesearch.study.results import Results, open_results
from recipesearch.study.storage import Database
from recipesearch.workers.instant import InstantWorker

run_here = functools.partial(search.run, open_worker=InstantWorker)
MakePlan = Callable[..., Plan]
SEARCH = {"sampler": "merge_gp", "trials": 20, "seed": 1}


@pytest.fixture(scope="module")
def made() -> list[Results]:
    """The results of the study, once it has run."""
    return []


@pytest.fixture
def results(make_paper_plan: MakePlan, made: list[Results]) -> Results:
    if not made:
        made.append(run_here(make_paper_plan(search=SEARCH)))
    return made[0]


def test_every_scored_recipe_has_a_standing(results: Results) -> None:
    for row in results.scored:
        assert row.standing is not None
        assert row.values is not None
        assert 0 <= row.standing.front <= 1
        for mean, deviation, measured in zip(
            row.standing.means, row.standing.deviations, row.values, strict=True
        ):
            assert abs(mean - measured.value) < 0.25
            assert 0 < deviation < 0.25


def test_the_front_is_that_of_the_posterior_means(results: Results) -> None:
    means = np.array([row.standing.means for row in results.scored if row.standing])
    members = [row for row, on in zip(results.scored, pareto.front(-means), strict=True) if on]
    assert {row.number for row in results.front} == {row.number for row in members}
    chances = [row.standing.front for row in results.scored if row.standing]
    best = max(results.scored, key=lambda row: row.standing.front if row.standing else 0)
    assert max(chances) > 0.5
    assert best in results.front


def test_a_dominated_recipe_is_not_on_the_front_and_chances_add_up_to_several(results: Results) -> None:
    chances = [row.standing.front for row in results.scored if row.standing]
    assert min(chances) == 0
    assert sum(chances) >= 1


def test_standings_are_out_of_date_once_more_is_scored(make_paper_plan: MakePlan) -> None:
    plan = make_paper_plan(search=SEARCH)
    run_here(plan)
    calls: list[int] = []

    def stop(progress: Any) -> None:
        calls.append(progress.scored)
        if progress.scored == 22:
            raise KeyboardInterrupt

    longer = plan.model_copy(update={"search": plan.search.model_copy(update={"trials": 25})})
    with pytest.raises(KeyboardInterrupt):
        run_here(longer, stop)
    _, results = open_results(Database(plan.storage_url), plan.name)
    assert len(results.scored) == 22
    assert not any(row.standing for row in results.rows)
    assert not results.effects


def test_of_one_number_the_chances_to_be_the_best_add_up_to_one(make_paper_plan: MakePlan) -> None:
    results = run_here(make_paper_plan(search=SEARCH | {"scalarize": [0.5, 0.5]}))
    assert sum(row.standing.front for row in results.scored if row.standing) == pytest.approx(1, abs=1e-4)


def test_effects_name_every_place_and_parent(results: Results) -> None:
    assert results.effects.keys() == {"g0", "g1"}
    assert all(row.keys() == {"math", "lang"} for row in results.effects.values())
    rows = effect_rows(results)
    assert len(rows) == 4
    assert rows[0].keys() == {"place", "from", *results.objectives}
    assert any(abs(row[results.objectives[0]]) > 0.01 for row in rows)


def test_reports_show_what_the_model_says(results: Results, make_paper_plan: MakePlan) -> None:
    row = front_rows(results)[0]
    name = results.objectives[0]
    assert {"front_probability", f"posterior.{name}", f"posterior.{name}.stderr"} <= row.keys()
    assert 0 <= status_data(make_paper_plan(search=SEARCH), results)["expected_gain"] < 1


def test_samplers_without_a_model_have_no_posterior(make_paper_plan: MakePlan) -> None:
    results = run_here(make_paper_plan())
    assert not any(row.standing for row in results.rows)
    assert "front_probability" not in front_rows(results)[0]
    assert effect_rows(results) == []

"""Eras: each a study of its own, whose parents may be members of the last front; kept, resumed, exported."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from vocabularies import PLAIN, SPECIAL, respoken

from recipesearch.checking.members import members, open_preflight
from recipesearch.checking.needs import needs_of_all
from recipesearch.checking.preflight import Preflight, preflight
from recipesearch.errors import PlanError, RefusedInput, StudyError
from recipesearch.exporting.export import export
from recipesearch.exporting.verify import verify
from recipesearch.merging.materialize import merger
from recipesearch.merging.stock import require_equal
from recipesearch.plan import Plan, load_plans
from recipesearch.recipe import Recipe
from recipesearch.search import run as search
from recipesearch.study.chain import origins
from recipesearch.study.results import Results, open_results
from recipesearch.study.storage import Database
from recipesearch.workers.worker import Worker

MakePlans = Callable[..., tuple[Plan, ...]]
run_here = functools.partial(search.run_eras, open_worker=Worker)

WEIGHTS = {"name": "weights", "space": {"weights": {"methods": ["linear"], "layer_groups": 2}}}
LAYERS = {
    "name": "layers",
    "parents": {"winner": "front:knee", "lang": "zoo:lang"},
    "space": {"layers": {"depth": [3, 6], "scale": [0.6, 1.4]}},
}


@pytest.fixture
def make_plans(small_tasks: dict[str, str], tmp_path: Path) -> MakePlans:
    """A function that writes a study file of two eras and loads it."""

    def make(name: str = "hybrid", eras: Any = (WEIGHTS, LAYERS), trials: int = 7, **changes: Any) -> Any:
        raw: dict[str, Any] = {
            "name": name,
            "parents": {"math": "zoo:math", "lang": "zoo:lang"},
            "objectives": [
                {"task": small_tasks["addition_b_search"], "metric": "exact_match"},
                {"task": small_tasks["reading_b_search"], "metric": "exact_match"},
            ],
            "search": {"sampler": "nsga2", "population": 4, "trials": trials, "seed": 1},
            "eras": [dict(era) for era in eras],
            "engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw | changes, sort_keys=False))
        return load_plans(path)

    return make


@pytest.fixture
def make_aligned(make_plans: MakePlans, zoo: Path, tmp_path: Path) -> MakePlans:
    """A function of the tokenizer's source: two eras, the reader of the first has more tokens than math."""
    lang = str(respoken(zoo / "lang", tmp_path / "lang", PLAIN, SPECIAL))
    layers = LAYERS | {"parents": {"winner": "front:knee", "math": "zoo:math"}}

    def make(source: str) -> tuple[Plan, ...]:
        eras = (WEIGHTS | {"tokenizer": {"source": source}}, layers)
        return make_plans(eras=eras, parents={"math": "zoo:math", "lang": lang}, base="math", trials=5)

    return make


def history(results: Results) -> list[tuple[Any, ...]]:
    return [(row.number, row.state, row.recipe, dict(row.genome), row.values) for row in results.rows]


def histories(plans: tuple[Plan, ...]) -> list[list[tuple[Any, ...]]]:
    return [history(results_of(plan)) for plan in plans]


def results_of(plan: Plan) -> Results:
    return open_results(Database(plan.storage_url), plan.name)[1]


def checked_of(plan: Plan) -> Preflight:
    return open_preflight(plan, Database(plan.storage_url))


def test_the_next_eras_parents_are_members_of_the_last_front(make_plans: MakePlans) -> None:
    plans = make_plans()
    last = run_here(plans)
    first = results_of(plans[0])
    assert len(first.scored) == len(last.scored) == 7
    assert last.identity["parents"]["winner"] == first.knee().recipe
    alone = next(row for row in last.rows if row.seed == "parent winner")
    assert alone.values == first.knee().values, "the member breeds in the next era, scored as it was"
    assert {plan.storage_url for plan in plans} == {plans[0].storage_url}, "one database for all eras"


def test_a_second_run_changes_nothing_and_the_last_era_may_grow(make_plans: MakePlans) -> None:
    plans = make_plans()
    run_here(plans)
    before = histories(plans)
    run_here(plans)
    assert histories(plans) == before
    grown = run_here(make_plans(eras=(WEIGHTS, LAYERS | {"search": {"trials": 9}})))
    assert len(grown.scored) == 9


def test_an_era_is_closed_once_the_next_has_begun(make_plans: MakePlans, zoo: Path, tmp_path: Path) -> None:
    run_here(make_plans())
    for change in ({"search": {"trials": 9}}, {"space": {"weights": {"methods": ["linear", "slerp"]}}}):
        with pytest.raises(PlanError, match="era 'weights' is closed because the next era has started"):
            run_here(make_plans(eras=(WEIGHTS | change, LAYERS)))
    # What may differ when a study is resumed may differ here: a parent's place, for instance.
    (tmp_path / "elsewhere").symlink_to(zoo / "math")
    moved = {"math": str(tmp_path / "elsewhere"), "lang": "zoo:lang"}
    assert len(run_here(make_plans(parents=moved)).scored) == 7


def test_eras_are_added_at_the_end_only(make_plans: MakePlans) -> None:
    before = run_here(make_plans())
    between = LAYERS | {"name": "between"}
    with pytest.raises(PlanError, match="era 'between' has not started, but the later era 'layers' has"):
        run_here(make_plans(eras=(WEIGHTS | {"search": {"trials": 9}}, between, LAYERS)))
    assert history(run_here(make_plans())) == history(before), "nothing was run"
    last = LAYERS | {"name": "last", "search": {"trials": 5}}
    assert len(run_here(make_plans(eras=(WEIGHTS, LAYERS, last))).scored) == 5


def test_two_rules_that_choose_one_member_are_refused_by_name(
    make_plans: MakePlans, small_tasks: dict[str, str]
) -> None:
    twice = {"a": "front:best addition_b_search.exact_match", "b": "front:knee", "lang": "zoo:lang"}
    alone = [{"task": small_tasks["addition_b_search"], "metric": "exact_match"}]
    plans = make_plans(eras=(WEIGHTS, LAYERS | {"parents": twice}), objectives=alone, trials=4)
    with pytest.raises(RefusedInput, match=r"'a' and 'b' are the same model \(front:best .*front:knee\)"):
        run_here(plans)


def test_check_finds_what_a_vocabulary_would_cost_the_second_era(make_aligned: MakePlans) -> None:
    """Before the first era's budget is spent, not after."""
    with pytest.raises(RefusedInput, match=r"'winner' and 'math'.*have \d+ and 48 tokens"):
        list(needs_of_all(make_aligned("union")))
    assert [need["parents"] for need in needs_of_all(make_aligned("base"))] == [2, 2]


@pytest.mark.parametrize("at", ["the last recipe of the first era", "the first of the second"])
def test_interrupted_around_the_change_of_eras_it_becomes_the_same_study(
    make_plans: MakePlans, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    whole = make_plans("whole")
    run_here(whole)
    cut, calls = make_plans("cut"), 0
    original, stop = Worker.score, 7 if at.startswith("the last") else 8

    def interrupted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    monkeypatch.setattr(Worker, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_here(cut)
    run_here(cut)
    assert histories(cut) == histories(whole)


def test_an_era_whose_space_is_used_up_is_followed_by_the_next(make_plans: MakePlans) -> None:
    narrow = {"methods": ["linear"], "layer_groups": 1, "weight": [0.0, 1.0]}
    only = {"name": "weights", "space": {"weights": narrow | {"methods": ["passthrough"], "scale": 1.0}}}
    plans = make_plans(eras=(only, LAYERS), trials=5)
    last = run_here(plans)
    first = results_of(plans[0])
    assert len(first.scored) == 2, "one or the other parent: no more recipes"
    assert len(last.scored) == 5


@pytest.mark.long
def test_a_two_step_winner_is_exported_with_its_ancestor_and_rebuilt_by_stock_alone(
    make_plans: MakePlans, tmp_path: Path
) -> None:
    best = LAYERS | {"parents": {"winner": "front:best addition_b_search.exact_match", "math": "zoo:math"}}
    plans = make_plans(eras=(WEIGHTS, best), trials=8)
    results = run_here(plans)
    checked = checked_of(plans[1])
    winner = checked.pool.parents["winner"]
    row = next(row for row in results.rows if row.seed == "splice winner+math")
    recipe = export(checked, results, row, tmp_path / "winner")
    script = recipe.parent / "rebuild.sh"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", script.name], cwd=script.parent, env=environment, check=True, capture_output=True)
    ours = merger(checked.space.express(row.genome).parents()).stream(checked.space.express(row.genome))
    assert require_equal(ours, script.parent / "model") == 39
    # Again, into the same folder: what the first export left is not taken for the second's.
    first = results_of(plans[0])
    export(checked_of(plans[0]), first, first.knee(), tmp_path / "winner")
    assert not script.exists()
    assert "sh rebuild.sh" not in (recipe.parent / "README.md").read_text()
    recipe = export(checked, results, row, tmp_path / "winner")
    built = {"model", f"parent-{winner.digest[:12]}"}
    names = {file.name for file in recipe.parent.iterdir()} - built
    assert names == {"recipe.yaml", f"parent-{winner.digest[:12]}.yaml", "rebuild.sh", "README.md"}
    proof = verify(recipe)
    assert proof.command == "sh rebuild.sh"
    assert proof.tensors == 2 * 39, "its ancestor's, and its own"
    assert len(proof.scores) == 2
    member = members(plans[1], Database(plans[1].storage_url))["front:best addition_b_search.exact_match"]
    card = (recipe.parent / "README.md").read_text()
    assert f"trial {member.trial} of hybrid.weights" in card
    assert "sh rebuild.sh" in card
    assert origins(plans[1], results)["winner"].startswith(f"trial {member.trial} of hybrid.weights (best")
    told = yaml.safe_load(recipe.read_text())["recipesearch"]["parents"]["winner"]
    assert told["study"] == "hybrid.weights"
    assert told["digest"] == winner.digest


def test_paths_are_parents_of_the_era_after(make_plans: MakePlans) -> None:
    """A deeper winner: its depth is known before it is built, and layers of it can be taken."""
    deeper = LAYERS["space"]["layers"] | {"depth": [5, 6], "encoding": "slices"}  # type: ignore[index]
    first = {"name": "first", "space": {"layers": deeper}}
    second = LAYERS | {"parents": {"winner": "front:knee", "lang": "zoo:lang"}}
    plans = make_plans(eras=(first, second), trials=5)
    results = run_here(plans)
    checked = checked_of(plans[1])
    source = checked.pool.parents["winner"].source
    assert isinstance(source, Recipe)
    assert checked.pool.depths == {"winner": len(source.path or ()), "lang": 4}
    assert checked.pool.depths["winner"] in (5, 6)
    assert len(results.scored) == 5


@pytest.mark.long
def test_an_aligned_winner_is_a_parent_of_one_vocabulary(make_aligned: MakePlans, tmp_path: Path) -> None:
    """The hybrid of 2403.13187: one of its parents has more tokens than the others."""
    plans = make_aligned("base")
    results = run_here(plans)
    assert len(results.scored) == 5
    checked = checked_of(plans[1])
    assert checked.pool.tokenizer is None
    row = next(row for row in results.rows if row.seed == "splice winner+math")
    assert verify(export(checked, results, row, tmp_path / "winner")).tensors == 2 * 39


def test_before_its_time_an_era_has_no_members(make_plans: MakePlans) -> None:
    plans = make_plans()
    with pytest.raises(StudyError, match="run it first"):
        members(plans[1], Database(plans[1].storage_url))


def test_a_member_whose_parents_have_changed_is_refused(
    make_plans: MakePlans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = make_plans()
    run_here(plans)
    monkeypatch.setattr("recipesearch.checking.members.preflight", over_swapped_parents)
    with pytest.raises(RefusedInput, match="was scored with other parents"):
        members(plans[1], Database(plans[1].storage_url))


def over_swapped_parents(plan: Plan, *rest: Any, **named: Any) -> Any:
    """The preflight of a plan whose two parents have changed places."""
    one, other = plan.parents
    parents = {one: plan.parents[other], other: plan.parents[one]}
    return preflight(plan.model_copy(update={"parents": parents}), *rest, **named)

"""A sweep: ratios from one parent to the other, each equal to the recipe it stands for, scored once."""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from recipesearch.errors import PlanError
from recipesearch.plan import Plan
from recipesearch.report.sweep_report import sweep_rows, write_figure
from recipesearch.scoring.scorer import Scorer
from recipesearch.search import ratio_sweep as sweeping
from recipesearch.workers.worker import Worker

MakePlan = Callable[..., Plan]
sweep = functools.partial(sweeping.sweep, open_worker=Worker)
THREE = {"base": "zoo:base", "math": "zoo:math", "lang": "zoo:lang"}


def test_every_method_with_a_ratio_goes_from_one_parent_to_the_other(make_plan: MakePlan) -> None:
    """At the ends stands one parent alone, as its own model scores; in the middle something else."""
    plan = make_plan(parents=THREE, base="base")
    own = {row.ratio: row.values for row in sweep(plan, ("math", "lang"), [0.0, 0.5, 1.0])}
    for method in ("linear", "slerp", "task_arithmetic"):
        found = {row.ratio: row.values for row in sweep(plan, ("math", "lang"), [0.0, 1.0], method)}
        assert found[0.0] == own[0.0], method
        assert found[1.0] == own[1.0], method
    assert own[0.5] not in (own[0.0], own[1.0])
    assert {"slerp", "nuslerp", "linear", "ties", "della"} <= set(sweeping.SWEPT)
    assert "karcher" not in sweeping.SWEPT


def test_a_sweep_on_the_sphere_moves_too(make_plan: MakePlan) -> None:
    """multislerp over a base of two would be the other parent at every ratio."""
    plan = make_plan(parents=THREE, base="base")
    found = [point.values for point in sweep(plan, ("math", "lang"), [0.1, 0.5, 0.9], "multislerp")]
    assert found[0] != found[1] != found[2]


def test_a_sweep_is_answered_from_the_ledger_the_second_time(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan()
    first = list(sweep(plan, ("math", "lang"), [0.3, 0.7]))

    def never(self: Scorer, lm: object, *rest: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(Scorer, "score", never)
    assert list(sweep(plan, ("math", "lang"), [0.3, 0.7])) == first


@pytest.mark.parametrize(
    ("pair", "method", "words"),
    [
        (("math", "nobody"), "linear", "no parent 'nobody'"),
        (("math", "math"), "linear", "needs two parents"),
        (("math", "lang"), "karcher", "no ratio to sweep"),
        (("math", "lang"), "ties", "needs a base"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_loaded(
    make_plan: MakePlan, pair: tuple[str, str], method: str, words: str
) -> None:
    with pytest.raises(PlanError, match=words):
        list(sweeping.sweep(make_plan(), pair, [0.5], method, open_worker=None))


def test_rows_and_the_page_hold_every_point(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan()
    points = list(sweep(plan, ("math", "lang"), [0.25, 0.75]))
    names = [goal.name for goal in plan.goals]
    rows = sweep_rows([*points, sweeping.Point(0.9, {}, "hang: no score")], names)
    assert [row["ratio"] for row in rows] == [0.25, 0.75, 0.9]
    assert rows[0][names[0]] == points[0].values[names[0]].value
    assert (rows[2][names[0]], rows[2]["cause"]) == (None, "hang: no score")
    write_figure(points, names, "from math to lang", tmp_path / "sweep.html")
    page = (tmp_path / "sweep.html").read_text()
    assert all(name in page for name in names)
    assert not re.search(r"<script[^>]*\ssrc=", page), "nothing is fetched"

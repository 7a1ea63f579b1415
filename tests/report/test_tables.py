import csv
import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from recipesearch.errors import PlanError
from recipesearch.plan import Plan, read_plan
from recipesearch.recipe import Parent
from recipesearch.report.rows import front_rows, seed_rows, status_data, trial_data
from recipesearch.report.tables import as_table
from recipesearch.score import Conditions, Measurement, Seconds, TaskScore
from recipesearch.space.kinds import open_space
from recipesearch.space.places import Parts
from recipesearch.space.pool import Pool
from recipesearch.study.identity import identify_study
from recipesearch.study.results import Results, open_results
from recipesearch.study.storage import Database
from recipesearch.study.study import Study

_CONDITIONS = Conditions("transformers", "cpu", 2, 64, "torch x", "float32", False)


@dataclass
class Trial:
    """What becomes of a trial: values scored, or the cause of its failure."""

    values: Sequence[float] = ()
    cause: str = ""


def make_study(
    folder: Path, trials: Sequence[Trial], objectives: int = 2, name: str = "small", held_out: bool = False
) -> tuple[Plan, Results]:
    """A study on disk in which every recipe is real and only the scores are given."""
    database = Database(f"sqlite:///{folder / 'study.db'}")
    tasks = [f"task{i}" for i in range(objectives)]
    raw: dict[str, Any] = {
        "name": name,
        "parents": {"a": "/models/a", "b": "/models/b"},
        "space": {"weights": {"methods": ["linear", "slerp"], "layer_groups": 2}},
        "objectives": [{"task": task, "metric": "acc", "maximize": i != 2} for i, task in enumerate(tasks)],
        "search": {"sampler": "random", "trials": len(trials), "seed": 3},
        "storage": database.url,
    }
    plan = read_plan(raw, folder, "test")
    parents = {"a": Parent("a" * 64, "/models/a"), "b": Parent("b" * 64, "/models/b")}
    pool = Pool(parents, None, dict.fromkeys(parents, 4), Parts(("embed",), ("head",), ()), "float32", seed=3)
    space = open_space(plan.space, pool)
    goals = [replace(goal, hash=goal.task) for goal in plan.goals]
    identity = identify_study(plan, parents, space.genes, goals, _CONDITIONS, plan.search.sampler)
    study = Study.open(plan, space, identity, goals, database)
    if held_out:
        study.hold_out([replace(goal, hash=f"held{goal.task}") for goal in goals])
    for trial in trials:
        candidate = study.ask()
        assert candidate is not None
        if trial.cause:
            study.fail(candidate, trial.cause)
            continue
        study.tell(candidate, _scores(tasks, trial.values), Seconds(0.5, 1.5))
        if held_out:
            worse = [value - 0.2 for value in trial.values]
            study.commit(candidate.recipe, _scores([f"held{t}" for t in tasks], worse), Seconds(0.0, 1.0))
    return open_results(database, name)


def _scores(tasks: Sequence[str], values: Sequence[float]) -> list[TaskScore]:
    return [
        TaskScore(task, {"acc": Measurement(value, 0.025)}, {"0": {"acc": 1.0}})
        for task, value in zip(tasks, values, strict=True)
    ]


# Seeds come first: parent a, parent b, uniform average, slerp defaults; then the sampler's own.
TWO = [
    Trial((0.1, 0.9)),
    Trial((0.8, 0.2)),
    Trial((0.5, 0.5)),
    Trial((0.4, 0.4)),
    Trial((0.7, 0.6)),
    Trial(cause="non-finite logits"),
    Trial((0.2, 0.3)),
]


def _rendered(rows: Sequence[Mapping[str, Any]]) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(as_table("a [title]", rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_front_rows_are_flat_sorted_and_in_a_stable_order(tmp_path: Path) -> None:
    _, results = make_study(tmp_path, TWO)
    rows = front_rows(results)
    assert [row["trial"] for row in rows] == [1, 4, 0]
    assert rows[0]["seed"] == "parent b"
    assert list(rows[0]) == [
        "trial",
        "seed",
        "task0.acc",
        "task0.acc.stderr",
        "task1.acc",
        "task1.acc.stderr",
        "held_out.task0.acc",
        "held_out.task0.acc.stderr",
        "held_out.task1.acc",
        "held_out.task1.acc.stderr",
    ]
    assert rows[0]["held_out.task0.acc"] is None
    buffer = io.StringIO()
    csv.DictWriter(buffer, list(rows[0])).writerows(rows)
    assert json.loads(json.dumps(rows)) == rows


def test_held_out_scores_join_the_rows(tmp_path: Path) -> None:
    _, results = make_study(tmp_path, TWO, held_out=True)
    assert front_rows(results)[0]["held_out.task0.acc"] == pytest.approx(0.6)
    assert [row["seed"] for row in seed_rows(results)] == [
        "parent a",
        "parent b",
        "uniform average",
        "slerp defaults",
    ]


def test_status_counts_every_trial_once(tmp_path: Path) -> None:
    plan, results = make_study(tmp_path, TWO)
    again = replace(results.rows[4], number=len(results.rows))
    failed_again = replace(
        results.rows[5], number=len(results.rows) + 1, cause="repeat of a recipe that failed"
    )
    running = replace(
        results.rows[6], number=len(results.rows) + 2, state="running", recipe="new", values=None
    )
    data = status_data(
        plan, Results(results.identity, [*results.rows, again, failed_again, running], results.ledger)
    )
    assert data["trials"] == 10
    assert (data["scored"], data["failed"], data["repeats"], data["running"]) == (6, 1, 2, 1)
    assert data["failures"] == {"non-finite logits": 1}
    assert data["best"]["task0.acc"] == {"value": 0.8, "stderr": 0.025, "trial": 1}
    assert (data["wanted"], data["front"]) == (7, 3)
    json.dumps(data)


def test_the_pace_is_that_of_the_clock(tmp_path: Path) -> None:
    """Two workers score 2 seconds of work each 1.5 seconds."""
    plan, results = make_study(tmp_path, TWO)
    start = datetime(2026, 1, 1)
    rows = [replace(row, ended=start + timedelta(seconds=1.5 * row.number)) for row in results.rows]
    rows = [replace(row, seconds=Seconds(0.5, 1.5)) if row.values else row for row in rows]
    data = status_data(plan, Results(results.identity, rows, results.ledger))
    scored = [row for row in rows if row.values]
    minutes = 1.5 * (scored[-1].number - scored[0].number) / 60
    assert data["recipes_per_minute"] == round((len(scored) - 1) / minutes, 1)
    assert data["busy_workers"] == round(2 * (len(scored) - 1) / (60 * minutes), 1)
    assert data["minutes_left"] == round((plan.search.trials - len(scored)) * minutes / (len(scored) - 1), 1)


def test_a_night_between_two_runs_is_no_pace(tmp_path: Path) -> None:
    plan, results = make_study(tmp_path, TWO)
    start = datetime(2026, 1, 1)
    rows = [
        replace(
            row,
            ended=start + timedelta(hours=9 * (row.number > 2), seconds=row.number),
            seconds=Seconds(0.5, 0.5),
        )
        for row in results.rows
    ]
    data = status_data(plan, Results(results.identity, rows, results.ledger))
    assert data["recipes_per_minute"] > 30


def test_a_minimised_objective_is_best_at_its_lowest(tmp_path: Path) -> None:
    plan, results = make_study(tmp_path, [Trial((0.5, 0.5, 0.9)), Trial((0.5, 0.5, 0.1))], objectives=3)
    assert status_data(plan, results)["best"]["task2.acc"]["trial"] == 1


def test_a_study_without_scores_has_a_status(tmp_path: Path) -> None:
    plan, results = make_study(tmp_path, [Trial(cause="no memory")])
    data = status_data(plan, results)
    assert (data["scored"], data["best"], data["recipes_per_minute"]) == (0, {}, None)
    assert front_rows(results) == []
    assert "title" in _rendered([])


def test_trial_data_holds_the_whole_trial(tmp_path: Path) -> None:
    plan, results = make_study(tmp_path, TWO, held_out=True)
    data = trial_data(plan, results, 3)
    assert (data["state"], data["seed"], data["on_front"]) == ("complete", "slerp defaults", False)
    assert data["values"]["task1.acc"] == {"value": 0.4, "stderr": 0.025}
    assert data["held_out"]["task1.acc"]["value"] == pytest.approx(0.2)
    assert data["yaml"].startswith("merge_method: slerp")
    assert data["genome"]["method"] == "slerp"
    assert data["seconds"] == pytest.approx({"load": 0.5, "score": 1.5})
    json.dumps(data)


def test_trial_data_of_a_failed_trial_tells_the_cause(tmp_path: Path) -> None:
    plan, results = make_study(tmp_path, TWO)
    data = trial_data(plan, results, 5)
    assert (data["state"], data["cause"]) == ("fail", "non-finite logits")
    assert (data["values"], data["held_out"], data["yaml"], data["seconds"]) == (None, None, None, None)
    with pytest.raises(PlanError, match="no trial 99"):
        trial_data(plan, results, 99)


def test_numpy_and_non_finite_numbers_become_json(tmp_path: Path) -> None:
    plan, results = make_study(tmp_path, TWO)
    odd = replace(
        results.rows[0],
        genome={"x": np.float32(0.5), "use.a": np.bool_(True), "n": np.int64(3)},
        values=(Measurement(np.float64(0.9), np.float64(0.1)), Measurement(np.float64(0.9), float("nan"))),
    )
    changed = Results(results.identity, [odd, *results.rows[1:]], results.ledger)
    everything = [front_rows(changed), status_data(plan, changed), trial_data(plan, changed, 0)]
    assert json.loads(json.dumps(everything, allow_nan=False)) == everything
    assert trial_data(plan, changed, 0)["genome"] == {"x": 0.5, "use.a": True, "n": 3}


def test_a_table_joins_values_with_their_errors(tmp_path: Path) -> None:
    _, results = make_study(tmp_path, TWO)
    text = _rendered(front_rows(results))
    assert "0.800 ± 0.025" in text
    assert "parent b" in text
    assert "stderr" not in text
    assert "held_out" not in text
    assert "a [title]" in text


def test_a_table_shows_nested_data_line_by_line() -> None:
    text = _rendered(
        [
            {"": "best", "value": {"t.acc": {"value": 0.5, "stderr": 0.1, "trial": 4}}},
            {"": "flag", "value": True},
            {"": "list", "value": ["one [red]", "two"]},
            {"": "none", "value": None},
        ]
    )
    assert "t.acc: 0.500 ± 0.100 (trial 4)" in text
    assert "one [red]" in text


def test_tables_are_light() -> None:
    code = "import sys, recipesearch.report.tables; print({'plotly', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"

"""A search over a real worker process: the same study, whatever befalls the process."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import alive

from recipesearch import cli
from recipesearch.errors import TrialFailed
from recipesearch.files import cache_dir
from recipesearch.plan import Plan
from recipesearch.processes import own_mark
from recipesearch.scoring.scorer import Scorer
from recipesearch.search import run as search
from recipesearch.search.run import Progress
from recipesearch.study.results import Results, open_results
from recipesearch.study.storage import Database
from recipesearch.workers.remains import MARK
from recipesearch.workers.supervisor import Supervised
from recipesearch.workers.worker import Worker

pytest.importorskip("torch")

MakePlan = Callable[..., Plan]


@pytest.fixture(autouse=True)
def cache_with_zoo(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with the zoo in it, and no other supervisor's records."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "zoo").symlink_to(cache_dir() / "zoo")
    monkeypatch.setenv("RECIPESEARCH_CACHE", str(folder))
    return folder


def history(results: Results) -> list[tuple[Any, ...]]:
    return [
        (row.number, row.state, row.recipe, dict(row.genome), row.values, row.held_out)
        for row in results.rows
    ]


def marked() -> list[int]:
    """The living worker processes of this process, by their environment."""
    wanted = f"{MARK}={own_mark()}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            told, words = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if wanted in told.split(b"\0") and b"recipesearch.workers.worker_process" in words.split(b"\0")[:4]:
            found.append(int(path.name))
    return [process for process in found if alive(process)]


def test_a_process_of_its_own_makes_the_same_study(
    make_plan: MakePlan, small_tasks: dict[str, str], cache_with_zoo: Path
) -> None:
    """Recipes, genes, values and held-out values, to the last bit."""
    held_out = [small_tasks["addition_b_held_out"], small_tasks["reading_b_held_out"]]
    here = search.run(make_plan("here", held_out=held_out), open_worker=Worker)
    apart = search.run(make_plan("apart", held_out=held_out))
    assert history(apart) == history(here)
    assert apart.identity == here.identity
    assert marked() == []
    assert list((cache_with_zoo / "workers").iterdir()) == []


def test_a_worker_killed_from_outside_costs_one_trial(make_plan: MakePlan) -> None:
    killed = []

    def kill_at_three(progress: Progress) -> None:
        if progress.scored == 3 and not killed:
            (worker,) = marked()
            killed.append(worker)
            os.kill(worker, signal.SIGSTOP)  # so that the next candidate is with it when it is killed
            threading.Timer(2, os.kill, (worker, signal.SIGKILL)).start()

    results = search.run(make_plan(), kill_at_three)
    causes = [str(row.cause) for row in results.rows if row.state == "fail"]
    assert len(causes) == 1
    assert causes[0].startswith("crash: the worker was ended by SIGKILL (log: ")
    assert len(results.scored) == 12
    assert len(killed) == 1
    assert marked() == []


def run_on_the_command_line(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["recipesearch", "run", str(plan.folder / f"{plan.name}.yaml")])
    return cli._run()


def test_a_run_in_which_too_much_fails_pauses_and_goes_on_later(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a rate of 0.25: with the fifth failure among its last 20 candidates."""
    score, calls = Supervised.score, []

    def every_second(self: Supervised, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) % 2:
            raise TrialFailed("a broken fan")
        return score(self, *arguments, **named)

    plan = make_plan(
        search={"sampler": "nsga2", "population": 4, "trials": 12, "seed": 1, "max_failure_rate": 0.25}
    )
    with monkeypatch.context() as patch:
        patch.setattr(Supervised, "score", every_second)
        assert run_on_the_command_line(plan, monkeypatch) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "5 of the last 9 candidates failed, the last with: a broken fan" in said
    assert "run the same command" in said
    assert marked() == []
    assert run_on_the_command_line(plan, monkeypatch) == 0
    _, results = open_results(Database(plan.storage_url), plan.name)
    assert len(results.scored) == 12
    assert [row.cause for row in results.rows if row.state == "fail"] == ["a broken fan"] * 5


def test_failures_that_lie_further_back_do_not_count(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fifth fails: six in all, but never more than four of twenty."""
    score, calls = Scorer.score, []

    def not_the_fifth(self: Scorer, lm: Any, *rest: Any) -> Any:
        calls.append(1)
        if len(calls) % 5 == 0:
            raise TrialFailed("a broken fan")
        return score(self, lm)

    monkeypatch.setattr(Scorer, "score", not_the_fifth)
    plan = make_plan(search={"sampler": "random", "trials": 25, "seed": 1, "max_failure_rate": 0.25})
    results = search.run(plan, open_worker=Worker)
    assert len([row for row in results.rows if row.state == "fail"]) == 6
    assert len(results.scored) == 25

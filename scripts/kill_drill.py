"""Kills a running study with SIGKILL at random moments, resumes it each time, and checks what is left.

    python scripts/kill_drill.py [--kills 20] [--trials 120] [--seed 0] [--storage URL]

Ends with exit code 1 if a finished score was lost, changed or recomputed, if a ledger key has two rows, if
the total is missed, if a trial is left RUNNING, or if the recipes differ from an uninterrupted run's.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from recipesearch.errors import StudyError
from recipesearch.study.results import Results, open_results

PLAN = """
name: {name}
parents: {{base: "zoo:base", math: "zoo:math", lang: "zoo:lang"}}
base: base
space: {{weights: {{methods: [linear, task_arithmetic, dare_ties, slerp], parents: subset, layer_groups: 2}}}}
objectives:
  - {{task: "zoo:tasks/addition_b_search.yaml", metric: exact_match}}
  - {{task: "zoo:tasks/reading_b_search.yaml", metric: exact_match}}
search: {{sampler: nsga2, population: 8, trials: {trials}, seed: 3}}
engine: {{kind: transformers, dtype: float32, device: cpu, threads: 1, batch_size: 300}}
storage: {storage}
"""


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="kill-drill-") as folder:
        storage = arguments.storage or "sqlite:///drill.db"
        plans = {}
        for name in ("drill-plain", "drill-killed"):
            plans[name] = Path(folder, f"{name}.yaml")
            text = PLAN.format(name=name, trials=arguments.trials, storage=storage)
            # Apart, so that neither answers the other's recipes from the ledger.
            plans[name].write_text(text.replace("drill.db", f"{name}.db"))
        seconds = _run_whole(plans["drill-plain"])
        print(f"uninterrupted: {arguments.trials} recipes in {seconds:.0f} s")
        acknowledged = _kill_and_resume(plans["drill-killed"], arguments, seconds)
        return _judge(
            _results(plans["drill-plain"]), _results(plans["drill-killed"]), acknowledged, arguments
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", help="a database URL for both studies; SQLite files by default")
    return parser.parse_args()


def _command(plan: Path) -> list[str]:
    return [sys.executable, "-m", "recipesearch", "run", str(plan), "--json"]


def _run_whole(plan: Path) -> float:
    begun = time.monotonic()
    subprocess.run(_command(plan), check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _kill_and_resume(plan: Path, arguments: argparse.Namespace, whole: float) -> dict[str, object]:
    """Kills the run ``--kills`` times, then lets it end. Returns every score seen between the kills."""
    draw = random.Random(arguments.seed)
    seen: dict[str, object] = {}
    for kill in range(arguments.kills):
        process = subprocess.Popen(_command(plan), stdout=subprocess.DEVNULL, start_new_session=True)
        begun = _wait_for_work(plan, process, len(seen))
        # Anywhere in the next few recipes: in ask, merge, score, commit or tell.
        time.sleep(draw.uniform(0.0, 0.6 * whole / arguments.kills))
        ended = process.poll() is not None
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        rows = _rows(plan)
        for key, value in seen.items():
            if rows.get(key) != value:
                raise SystemExit(f"FAILED: the score {key} was lost or changed by kill {kill}")
        seen = rows
        print(f"kill {kill + 1}: {len(rows) // 2} recipes scored, start-up {begun:.0f} s")
        if ended:
            print("the study ended before this kill; give more --trials")
            break
    _run_whole(plan)
    return seen


def _wait_for_work(plan: Path, process: subprocess.Popen[bytes], before: int) -> float:
    """Waits until the run has begun to work: a kill during imports would prove little."""
    begun = time.monotonic()
    while process.poll() is None and len(_rows(plan)) <= before and time.monotonic() - begun < 120:
        time.sleep(0.05)
    return time.monotonic() - begun


def _rows(plan: Path) -> dict[str, object]:
    """Every committed score with its row id and time, by its ledger key; none before the study exists."""
    try:
        return _score_rows(_results(plan))
    except StudyError:
        return {}


def _score_rows(results: Results) -> dict[str, object]:
    with results.ledger._engine.connect() as connection:
        rows = connection.execute(sa.text("select * from recipesearch_scores order by id")).all()
    return {"|".join(map(str, row[1:6])): tuple(map(str, row)) for row in rows}


def _results(plan: Path) -> Results:
    from recipesearch.plan import load_plan

    loaded = load_plan(plan)
    return open_results(loaded.storage_url, loaded.name)[1]


def _judge(
    plain: Results, killed: Results, acknowledged: dict[str, object], arguments: argparse.Namespace
) -> int:
    final = _score_rows(killed)
    one, other = ([row.recipe for row in results.rows] for results in (plain, killed))
    with killed.ledger._engine.connect() as connection:
        rows = connection.scalar(sa.text("select count(*) from recipesearch_scores"))
        keys = connection.scalar(
            sa.text(
                "select count(*) from (select distinct recipe, task, engine, dtype, chat_template"
                " from recipesearch_scores) as keys"
            )
        )
        items = connection.scalar(sa.text("select count(*) from recipesearch_items"))
    verdicts = {
        f"total reached exactly: {len(killed.scored)} of {arguments.trials}": len(killed.scored)
        == arguments.trials,
        f"one ledger row per key: {rows} rows, {keys} keys, {items} items": rows == keys
        and items == 300 * (rows or 0),
        f"scores seen at the last kill stand unchanged: {len(acknowledged)}": all(
            final.get(key) == row for key, row in acknowledged.items()
        ),
        "no trial left running": all(row.state not in ("running", "waiting") for row in killed.rows),
        f"same sequence of recipes as uninterrupted: {len(one)} and {len(other)} trials": one == other,
        "same values": [row.values for row in plain.rows] == [row.values for row in killed.rows],
    }
    for what, held in verdicts.items():
        print(("ok      " if held else "FAILED  ") + what)
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

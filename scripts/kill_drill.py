"""Kills a running study with SIGKILL at random moments, resumes it each time, and checks the results.

    python scripts/kill_drill.py [--kills 20] [--trials 120] [--seed 0] [--storage URL] [--hybrid | --evolve]

With --hybrid the study has two eras, weights and layers, of ``--trials`` trials each, and every fourth kill
waits for the change of eras, if the change is still to come. With --evolve the study has eight eras,
between which winners are mutated by DPO, and every third kill waits for a training. Ends with exit code 1
if a finished score was lost, changed or recomputed; if a ledger key has two rows; if a study misses its
total; if a trial is left RUNNING; if the recipes, the parents or the mutants differ from those of an
uninterrupted run; if the second era's parent is no trial of the first era; or if the folder of bred parents
has an unused file.
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
import yaml
from zoo_studies import ENGINE, objectives

from recipesearch.errors import StudyError
from recipesearch.plan import load_plans
from recipesearch.study.chain import begun
from recipesearch.study.mutants import Mutant, Mutants
from recipesearch.study.results import Results, open_results, open_stored
from recipesearch.study.storage import Database

SECTIONS = """
plain:
  parents: {base: "zoo:base", math: "zoo:math", lang: "zoo:lang"}
  base: base
  space: {weights: {methods: [linear, task_arithmetic, dare_ties, slerp], parents: subset, layer_groups: 2}}
hybrid:
  parents: {math: "zoo:math", lang: "zoo:lang"}
  eras:
    - {name: weights, space: {weights: {methods: [linear, slerp], layer_groups: 4}}}
    - name: layers
      parents: {winner: "front:knee", math: "zoo:math", lang: "zoo:lang"}
      space: {layers: {depth: [3, 7], scale: [0.6, 1.4]}}
evolve:
  parents: {math: "zoo:math", lang: "zoo:lang"}
  space: {weights: {methods: [linear], layer_groups: 4}}
  preference: ["zoo:tasks/addition_b_preference.yaml"]
  mutation: {eras: 8, elites: 3, mutants: 1, pool: 5, pairs: 128, samples: 2, steps: 40, immigrants: 2}
"""
ERAS = {"plain": 1, "hybrid": 2, "evolve": 8}
_TRAINING = "recipesearch.mutation.training_process"
_TRAINING_SECONDS = 8.0
_CHANGE_SECONDS = 12.0  # roughly the start of the second era's worker


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="kill-drill-") as folder:
        plain = _plan_file(Path(folder), "drill-plain", arguments)
        killed = _plan_file(Path(folder), "drill-killed", arguments)
        seconds = _run_whole(plain)
        print(f"uninterrupted: {arguments.trials} recipes an era in {seconds:.0f} s")
        acknowledged = _kill_and_resume(killed, arguments, seconds)
        verdicts = _judge(_results(plain), _results(killed), acknowledged, arguments)
        if arguments.kind == "evolve":
            verdicts |= _judge_mutants(plain, killed)
        for what, held in verdicts.items():
            print(("ok      " if held else "FAILED  ") + what)
        return 0 if all(verdicts.values()) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--hybrid", dest="kind", action="store_const", const="hybrid", default="plain")
    kind.add_argument("--evolve", dest="kind", action="store_const", const="evolve")
    parser.add_argument("--storage", help="a database URL for both studies; SQLite files by default")
    return parser.parse_args()


def _plan_file(folder: Path, name: str, arguments: argparse.Namespace) -> Path:
    plan = {
        "name": name,
        **yaml.safe_load(SECTIONS)[arguments.kind],
        "objectives": objectives(),
        "search": {"sampler": "auto", "population": 8, "trials": arguments.trials, "seed": 3},
        "engine": {**ENGINE, "kind": "transformers"},
        # One SQLite file each, so that neither study takes scores from the other's ledger.
        "storage": arguments.storage or f"sqlite:///{name}.db",
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


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
        started = _wait_for_work(plan, process, len(seen))
        if arguments.kind == "hybrid" and kill % 4 == 3 and _wait_for_the_change(plan, process):
            time.sleep(draw.uniform(0.0, _CHANGE_SECONDS))
            print("  at the change of eras:")
        elif arguments.kind == "evolve" and kill % 3 == 2 and _wait_for_a_training(process):
            time.sleep(draw.uniform(0.0, _TRAINING_SECONDS))
            print(f"  {'in' if _trains() else 'after'} a training:")
        else:
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
        print(f"kill {kill + 1}: {len(rows) // 2} recipes scored, start-up {started:.0f} s", flush=True)
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


def _wait_for_the_change(plan: Path, process: subprocess.Popen[bytes]) -> bool:
    """Waits until the first era has its total; False if the second has begun to score."""
    wanted = load_plans(plan)[0].search.trials
    while process.poll() is None:
        try:
            results = _results(plan)
        except StudyError:
            results = []
        if len(results) > 1 and results[1].scored:
            return False
        if results and len(results[0].scored) >= wanted:
            return True
        time.sleep(0.05)
    return False


def _wait_for_a_training(process: subprocess.Popen[bytes]) -> bool:
    """Waits until a training has started; False if the run ends without one."""
    while process.poll() is None:
        if _trains():
            return True
        time.sleep(0.1)
    return False


def _trains() -> bool:
    return subprocess.run(["pgrep", "-f", _TRAINING], capture_output=True, check=False).returncode == 0


def _rows(plan: Path) -> dict[str, object]:
    """Every committed score with its row id and time, by its ledger key; none before the study exists."""
    try:
        return _score_rows(_results(plan)[0])
    except StudyError:
        return {}


def _score_rows(results: Results) -> dict[str, object]:
    with results.ledger.database.engine.connect() as connection:
        rows = connection.execute(sa.text("select * from recipesearch_scores order by id")).all()
    return {"|".join(map(str, row[1:6])): tuple(map(str, row)) for row in rows}


def _results(plan: Path) -> list[Results]:
    """The results of each era that has begun."""
    plans = load_plans(plan)
    database = Database(plans[0].storage_url)
    return [open_results(database, era.name)[1] for era in plans if era is plans[0] or begun(database, era)]


def _judge(
    plain: list[Results],
    killed: list[Results],
    acknowledged: dict[str, object],
    arguments: argparse.Namespace,
) -> dict[str, bool]:
    final = _score_rows(killed[0])  # of all eras: one database, one ledger
    with killed[0].ledger.database.engine.connect() as connection:
        rows, keys, items = (connection.scalar(sa.text(query)) for query in _COUNTS)
    verdicts = {
        f"one ledger row per key: {rows} rows, {keys} keys, {items} items": rows == keys
        and items == 300 * (rows or 0),
        f"scores seen at the last kill stand unchanged: {len(acknowledged)}": all(
            final.get(key) == row for key, row in acknowledged.items()
        ),
        f"all eras are there: {len(killed)}": len(killed) == len(plain) == ERAS[arguments.kind],
    }
    for number, (one, other) in enumerate(zip(plain, killed, strict=True), 1):
        name = f"{number}, {' and '.join(other.identity['space'])}"
        verdicts |= _judge_era(name, one, other, arguments.trials)
    if arguments.kind == "hybrid":
        source = killed[1].identity["parents"]["winner"]
        origin = next((row.number for row in killed[0].rows if row.recipe == source), None)
        verdicts[f"the second era's parent is trial {origin} of the first"] = origin is not None
    return verdicts


def _judge_mutants(plain: Path, killed: Path) -> dict[str, bool]:
    """Whether the mutants of both runs agree, and whether each file of the bred parents is in use."""
    one, other = [_mutants(path) for path in (plain, killed)]
    plan = load_plans(killed)[0]
    files = {path.name for path in plan.bred.iterdir()}
    texts = [path.read_text() for path in plan.bred.glob("*.yaml")]
    database = Database(plan.storage_url)
    eras = [open_stored(database, era.name)[0] for era in load_plans(killed)]
    named = " ".join([*texts, *(reference for era in eras for reference in era.parents.values())])
    kept = {mutant.key for mutant in other if mutant.accepted}
    left = {name for name in files if name not in named and name not in kept}
    return {
        f"same mutants, each once: {len(other)}, let in {len(kept)}": [_of(m) for m in one]
        == [_of(m) for m in other],
        f"no file that nothing names: {len(files)} files, {sorted(left)}": not left,
    }


def _mutants(path: Path) -> list[Mutant]:
    plans = load_plans(path)
    table = Mutants(Database(plans[0].storage_url))
    return [mutant for plan in plans for mutant in table.of(plan.name)]


def _of(mutant: Mutant) -> tuple[object, ...]:
    return mutant.source, mutant.digest, mutant.accepted, mutant.record["pairs_digest"]


_COUNTS = (
    "select count(*) from recipesearch_scores",
    "select count(*) from (select distinct recipe, task, engine, dtype, chat_template"
    " from recipesearch_scores) as keys",
    "select sum(stop - start) from recipesearch_blocks",
)


def _judge_era(name: str, plain: Results, killed: Results, trials: int) -> dict[str, bool]:
    one, other = ([row.recipe for row in results.rows] for results in (plain, killed))
    return {
        f"{name}: total reached exactly: {len(killed.scored)} of {trials}": len(killed.scored) == trials,
        f"{name}: no trial left running": all(row.state not in ("running", "waiting") for row in killed.rows),
        f"{name}: same sequence of recipes as uninterrupted: {len(one)} and {len(other)} trials": one
        == other,
        f"{name}: same values": [row.values for row in plain.rows] == [row.values for row in killed.rows],
        f"{name}: same parents": plain.identity["parents"] == killed.identity["parents"],
    }


if __name__ == "__main__":
    sys.exit(main())

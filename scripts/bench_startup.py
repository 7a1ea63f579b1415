"""Seconds that commands take on a small finished study, of one or several checkouts side by side.

    python scripts/bench_startup.py [CHECKOUT ...] [--repeats N] [--no-bytecode]

Each CHECKOUT has its own ``.venv``; by default this one. The study is ``studies/demo.yaml`` with 8 recipes
over the zoo, in a folder that is removed afterwards. Printed is the least of N times. ``run`` has nothing to
do; the first candidate is the time from ``run`` on a new study to the first score in its database. With
``--no-bytecode`` Python keeps no compiled files, as where PYTHONDONTWRITEBYTECODE is set.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

from markdown_tables import table_head, table_row

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "--help": ["--help"],
    "status": ["status"],
    "front": ["front"],
    "check": ["check"],
    "run": ["run"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-bytecode", action="store_true")
    arguments = parser.parse_args()
    found = [
        _seconds(path.resolve(), arguments.repeats, arguments.no_bytecode) for path in arguments.checkouts
    ]
    print(table_head("command", *(path.name for path in arguments.checkouts)))
    for name in found[0]:
        print(table_row(name, *(f"{one[name]:.1f} s" for one in found)))


def _seconds(checkout: Path, repeats: int, no_bytecode: bool) -> dict[str, float]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(checkout)
    if no_bytecode:  # none is written, and none is found in a folder that does not exist
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(checkout / "absent")}
    python = [str(checkout / ".venv/bin/python"), "-m", "recipesearch"]
    with tempfile.TemporaryDirectory() as name:
        study = Path(name) / "demo.yaml"
        study.write_text((checkout / "studies/demo.yaml").read_text())
        options = ["--set", "search.trials=8"]

        def call(*words: str) -> float:
            begun = time.perf_counter()
            subprocess.run([*python, *words], cwd=name, env=environment, check=True, capture_output=True)
            return time.perf_counter() - begun

        first = _first_candidate([*python, "run", str(study), *options], Path(name), environment)
        call("run", str(study), *options)
        found = {}
        for command in COMMANDS:
            words = [command] if command == "--help" else [command, str(study)]
            words += options if command in ("check", "run") else []
            found[command] = min(call(*words) for _ in range(repeats))
        return {**found, "first candidate of a new study": first}


def _first_candidate(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    run = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _scores(folder / "demo.db"):
            time.sleep(0.05)
            if run.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended before its first candidate")
        return time.perf_counter() - begun
    finally:
        run.terminate()
        run.wait()


def _scores(database: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return int(connection.execute("select count(*) from recipesearch_scores").fetchone()[0])
    except sqlite3.Error:  # not there yet
        return 0


if __name__ == "__main__":
    main()

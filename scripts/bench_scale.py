"""How many workers one runner keeps busy, in virtual time (see virtual_pool.py).

    python scripts/bench_scale.py [--workers 16 100 1000] [--seconds 60 10] [--each 10]
        [--samplers random nsga2]

Candidates take SECONDS in the median (log-normal, sigma 0.5), and are scored by a formula. Everything else is
the project's runner on SQLite: proposals, repeats, ledger, study. Utilisation is the share of the workers'
time that scoring took, from the first recipe to the last; the ideal is what perfect bookkeeping would reach,
because at the end of a study workers have nothing to do.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import optuna
from bench_workers import study_plan
from markdown_tables import table_head, table_row
from virtual_pool import VirtualPool, virtual

from recipesearch.search.run import run
from recipesearch.workers.instant import InstantWorker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[16, 100, 1000])
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0, 10.0])
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--samplers", nargs="+", default=["random", "nsga2"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    heads = (
        "workers",
        "seconds each",
        "recipes",
        "utilisation",
        "ideal",
        "recipes per second",
        "runner, ms each",
    )
    print(table_head("sampler", *heads))
    for sampler in arguments.samplers:
        for seconds in arguments.seconds:
            for workers in arguments.workers:
                print(table_row(sampler, *_measured(sampler, workers, seconds, arguments.each)), flush=True)


def _measured(sampler: str, workers: int, seconds: float, each: int) -> list[str]:
    opened: list[VirtualPool] = []
    with tempfile.TemporaryDirectory() as folder, virtual(workers, seconds, opened=opened):
        plan = study_plan(Path(folder), sampler, 1, workers * each)
        scored = len(run(plan, open_worker=InstantWorker).scored)
    (pool,) = opened
    ideal = VirtualPool(_Ready(), workers, seconds, 0.5, 0)
    jobs = iter([(None, lambda worker: None)] * scored)
    for _ in ideal.stream(lambda: next(jobs, None)):
        pass
    return [
        str(workers),
        f"{seconds:.0f}",
        f"{scored:,}",
        f"{pool.utilisation:.3f}",
        f"{ideal.utilisation:.3f}",
        f"{scored / pool.now:.1f}",
        f"{1e3 * pool.runner / scored:.1f}",
    ]


class _Ready:
    """Stands in for a worker of jobs that do nothing."""

    ready = None


if __name__ == "__main__":
    main()

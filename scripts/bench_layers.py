"""Weights, layers and both in turn, at equal scored recipes on the zoo.

    python scripts/bench_layers.py [--trials 100] [--zoos 0 1 2] [--seeds 0 1 2] [--objectives 1 2]

Parents math and lang, no base. One number, addition in language B (sampler auto): the weight space of the
demo; the layer space by each encoding, by slices also with scales W; and both in turn, half of the recipes
each: an era of weights, then one of layers (steps) over its winner and the parents. The winner is the best
on search items; its held-out score is printed. Beside them a path that was found by hand, and math with the
final norm and head of lang; and how many recipes each arm needed for 90% of what the former has on search
items. Then two objectives, addition and reading in B (nsga2, population 10): the hypervolume from (0, 0) of
the held-out scores of the front of the search. ± is one standard error. Prints Markdown. The folder keeps
the studies: the same command resumes.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import yaml

from recipesearch import pareto
from recipesearch.check.preflight import preflight
from recipesearch.errors import SpaceUsedUp
from recipesearch.plan import load_plans
from recipesearch.recipe import Recipe, Slice, Source
from recipesearch.score import Measurement
from recipesearch.search.run import run_eras
from recipesearch.study.results import open_results
from recipesearch.workers.worker import Worker
from recipesearch.zoo import build_zoo

WEIGHTS = {"weights": {"methods": ["linear", "slerp"], "layer_groups": 4, "own": ["embed", "head"]}}
SCALE = [0.6, 1.4]
ENCODINGS = ("steps", "slots", "slices")
TASKS = ("addition_b", "reading_b")
ALONE = ("parent math", "parent lang", "uniform average")  # the weight space's seeds of these names
HAND = "math[0:4] + lang[3:4], found by hand"
BY_HAND = {
    HAND: (("math", (0, 4)), ("lang", (3, 4))),
    "math, lang's head": (("math", (0, 4)), ("lang", (0, 0))),
}
REACHED = 0.9


def _layers(encoding: str, scaled: bool) -> dict[str, Any]:
    scale = {"scale": SCALE} if scaled else {}
    return {"layers": {"encoding": encoding, "depth": [3, 7], "embed": "any", "head": "any", **scale}}


def _in_turn(trials: int, scaled: bool) -> list[dict[str, Any]]:
    """An era of weights, and one of layers over its winner and the parents."""
    winner = {"winner": "front:best addition_b_search.exact_match"}
    search = {"search": {"trials": trials // 2}}
    return [
        {"name": "weights", "space": WEIGHTS, **search},
        {"name": "layers", "parents": winner, "space": _layers("steps", scaled), **search},
    ]


ONE_NUMBER = (
    "weights",
    *(f"layers by {encoding}" for encoding in ENCODINGS),
    "layers by slices, W",
    "weights, then layers",
    "weights, then layers, W",
)
TWO_OBJECTIVES = ("weights", "layers by steps", "weights, then layers")
FIRST = ONE_NUMBER[0]


class Scored(NamedTuple):
    """One recipe of a study: its seed's label, and its values on search and held-out items."""

    label: str | None
    values: tuple[float, ...]
    held_out: tuple[Measurement, ...] | None

    @property
    def final(self) -> float:
        """Addition on held-out items."""
        assert self.held_out is not None
        return self.held_out[0].value


class Job(NamedTuple):
    """All that is searched in one zoo with one search seed, for one objective or two."""

    zoo: int
    seed: int
    objectives: int
    trials: int
    folder: Path


Found = Mapping[str, Sequence[Scored]]  # by arm, in the order they were scored; one by hand
Table = Mapping[tuple[int, int], Found]  # by zoo and search seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--zoos", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--objectives", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_layers"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for zoo in arguments.zoos:
        build_zoo(zoo, report=lambda line: print(line, file=sys.stderr))
    for objectives in arguments.objectives:
        keys = [(zoo, seed) for seed in arguments.seeds for zoo in arguments.zoos]
        jobs = [Job(*key, objectives, arguments.trials, folder) for key in keys]
        with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
            found = dict(zip(keys, pool.map(_search, jobs), strict=True))
        if objectives == 1:
            _print_one_number(found, arguments.zoos, arguments.seeds)
            _print_progress(found, arguments.zoos, arguments.seeds, arguments.trials)
        else:
            _print_two_objectives(found, arguments.zoos, arguments.seeds)


# -- searching


def _search(job: Job) -> Found:
    logging.disable(logging.WARNING)
    if job.objectives == 1:
        return {**_by_hand(job), **{arm: _scored(job, arm, TASKS[:1]) for arm in ONE_NUMBER}}
    return {arm: _scored(job, arm, TASKS) for arm in TWO_OBJECTIVES}


def _scored(job: Job, arm: str, tasks: Sequence[str]) -> list[Scored]:
    """Runs an arm's study, of one era or two, and returns the recipes that it scored."""
    begun = time.monotonic()
    plans = load_plans(_study_file(job, arm, tasks))
    try:
        run_eras(plans, open_worker=Worker)
    except SpaceUsedUp as end:
        print(f"{plans[-1].name}: {end}", file=sys.stderr)
    results = [open_results(plan.storage_url, plan.name)[1] for plan in plans]
    rows = [row for result in results for row in result.scored]
    failed = sum(row.cause is not None for result in results for row in result.rows)
    seconds = time.monotonic() - begun
    line = f"{len(rows)} recipes in {seconds:.0f} s, {failed} failed, sampler {results[-1].sampler}"
    print(f"{plans[-1].name}, zoo {job.zoo}: {line}", file=sys.stderr, flush=True)
    return [Scored(row.seed, tuple(m.value for m in row.values or ()), row.held_out) for row in rows]


def _study_file(job: Job, arm: str, tasks: Sequence[str]) -> Path:
    task = f"zoo@{job.zoo}:tasks/{{}}.yaml".format
    parents = {name: f"zoo@{job.zoo}:{name}" for name in ("math", "lang")}
    sampler = {"sampler": "nsga2", "population": 10} if len(tasks) > 1 else {"sampler": "auto"}
    name = f"{arm.replace(', ', '-').replace(' ', '-')}-{len(tasks)}-{job.seed}"
    content: dict[str, Any] = {
        "name": name,
        "parents": parents,
        "objectives": [{"task": task(f"{name}_search"), "metric": "exact_match"} for name in tasks],
        "held_out": [task(f"{name}_held_out") for name in tasks],
        "search": {**sampler, "trials": job.trials, "seed": job.seed},
        "engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 300},
        "storage": f"sqlite:///zoo-{job.zoo}-seed-{job.seed}-{job.objectives}.db",  # one ledger for all arms
    }
    scaled = arm.endswith(", W")
    if arm.startswith("layers by "):
        content["space"] = _layers(arm.removesuffix(", W").removeprefix("layers by "), scaled)
    elif "then" in arm:
        content["eras"] = _in_turn(job.trials, scaled)
        content["eras"][1]["parents"] |= parents
    else:
        content["space"] = WEIGHTS
    file = job.folder / f"zoo-{job.zoo}-{name}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def _by_hand(job: Job) -> dict[str, list[Scored]]:
    """Paths that no search found; the final norm and the head are the last slice's, as mergekit has it."""
    (plan,) = load_plans(_study_file(job, FIRST, TASKS[:1]))
    parents = preflight(plan).pool.parents
    found = {}
    with Worker(plan, parents) as worker:
        for label, pieces in BY_HAND.items():
            slices = tuple(Slice((Source(parents[name], layers),)) for name, layers in pieces)
            recipe = Recipe("passthrough", slices, parents["math"], dtype="float32")
            scores = [worker.score(recipe, held_out)[0][0] for held_out in (False, True)]
            search, held_out = (score.metrics["exact_match"] for score in scores)
            found[label] = [Scored(None, (search.value,), (held_out,))]
    return found


# -- tables


def _winner(rows: Sequence[Scored]) -> Scored:
    """The best on search items, the first of equals; as on any front, it has a held-out score."""
    return max((row for row in rows if row.held_out), key=lambda row: row.values[0])


def _print_one_number(found: Table, zoos: Sequence[int], seeds: Sequence[int]) -> None:
    print("\nAddition in language B on held-out items\n")
    heads = [*(f"zoo seed {zoo}" for zoo in zoos), "all", "minus weights", "better than weights"]
    _print_row("", heads)
    print("|---" * (len(heads) + 1) + "|")
    for label in (*ALONE, *BY_HAND):
        models = [_model(found[zoo, seeds[0]], label) for zoo in zoos]
        cells = [f"{m.value:.2f} ± {m.stderr or 0:.2f}" for m in models]
        _print_row(label, [*cells, f"{fmean(m.value for m in models):.2f}", "", ""])
    for arm in ONE_NUMBER:
        finals = {key: _winner(one[arm]).final for key, one in found.items()}
        gains = [final - _winner(found[key][FIRST]).final for key, final in finals.items()]
        cells = [_mean([finals[zoo, seed] for seed in seeds]) for zoo in zoos]
        better = sum(gain > 0 for gain in gains)
        against = ["", ""] if arm == FIRST else [_mean(gains, "+"), f"{better} of {len(gains)}"]
        _print_row(arm, [*cells, _mean(list(finals.values())), *against])


def _model(one: Found, label: str) -> Measurement:
    seeds = {row.label: row for row in one[FIRST] if row.label}
    scored = one[label][0] if label in BY_HAND else seeds[label]
    assert scored.held_out is not None
    return scored.held_out[0]


def _print_progress(found: Table, zoos: Sequence[int], seeds: Sequence[int], trials: int) -> None:
    stops = [trials // 4, trials // 2, trials]
    goals = {zoo: REACHED * found[zoo, seeds[0]][HAND][0].values[0] for zoo in zoos}
    print(f"\nBest on search items, mean of all; recipes to {REACHED:.0%} of the path found by hand\n")
    heads = [f"after {stop}" for stop in stops]
    heads += [f"zoo seed {zoo}: recipes to {goal:.2f}" for zoo, goal in goals.items()]
    _print_row("", heads)
    print("|---" * (len(heads) + 1) + "|")
    for arm in ONE_NUMBER:
        values = {key: [row.values[0] for row in one[arm]] for key, one in found.items()}
        cells = [_mean([max(found[:stop]) for found in values.values()]) for stop in stops]
        for zoo in zoos:
            cells.append(", ".join(_needed(values[zoo, seed], goals[zoo]) for seed in seeds))
        _print_row(arm, cells)


def _needed(values: Sequence[float], goal: float) -> str:
    return next((str(place) for place, value in enumerate(values, 1) if value >= goal), "never")


def _print_two_objectives(found: Table, zoos: Sequence[int], seeds: Sequence[int]) -> None:
    print("\nTwo objectives: hypervolume of the front on held-out items; best addition in B on it\n")
    heads = [*(f"zoo seed {zoo}" for zoo in zoos), "all", "best addition B, all"]
    _print_row("", heads)
    print("|---" * (len(heads) + 1) + "|")
    for arm in TWO_OBJECTIVES:
        volumes = {key: _volume(one[arm]) for key, one in found.items()}
        cells = [_mean([volumes[zoo, seed] for seed in seeds]) for zoo in zoos]
        best = [_winner(one[arm]).final for one in found.values()]
        _print_row(arm, [*cells, _mean(list(volumes.values())), _mean(best)])


def _volume(rows: Sequence[Scored]) -> float:
    """Of the held-out scores of the front on search items, from (0, 0)."""
    front = pareto.front(-np.array([row.values for row in rows]))
    members = [row.held_out for row, on in zip(rows, front, strict=True) if on and row.held_out]
    losses = -np.array([[measurement.value for measurement in member] for member in members])
    return pareto.hypervolume(losses, np.zeros(2))


def _mean(values: Sequence[float], sign: str = "") -> str:
    error = f" ± {stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{fmean(values):{sign}.3f}{error}"


def _print_row(label: str, cells: Sequence[str]) -> None:
    print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

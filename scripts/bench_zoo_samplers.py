"""Samplers against peers on the zoo, in three real spaces, by scored recipes.

    pip install pymoo; python scripts/bench_zoo_samplers.py [--trials 120] [--seeds 3] [--items 100]

Parents math and lang (and base), addition and reading in language B, ITEMS search items each. With one
number (the mean of both scores) the measure is the best value so far; with two objectives it is the
hypervolume from (0, 0). Our samplers run as studies, seeds included. The peers are mergekit-evolve's genome
(layer_granularity 1) under ``cma`` with mergekit-evolve's settings (sigma 1/6, no bounds), and pymoo's
NSGA-II over mergenetic's genome (one number for each parent and parameter, 0 to 1, population 10). Prints
the mean and 95% interval over search seeds, and how many recipes each sampler needs to reach the peer's
final mean.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cma
import numpy as np
import optuna
import torch
import yaml
from markdown_tables import table_head, table_row
from mergekit.common import ModelReference
from mergekit.evo.genome import ModelGenome, ModelGenomeDefinition
from numpy.typing import NDArray
from zoo_studies import ENGINE, TASKS, cut_task, objectives

from recipesearch import pareto
from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import worker_order
from recipesearch.errors import TrialFailed
from recipesearch.plan import Plan, read_plan
from recipesearch.recipe import Parent, Recipe
from recipesearch.recipe.mergekit_yaml import from_yaml
from recipesearch.search import run as search
from recipesearch.workers.worker import Worker
from recipesearch.zoo import build_zoo

Pairs = NDArray[np.float64]  # (recipes, 2): the values of recipes in the order they were scored
GROUPS = {"layer_groups": 4, "own": ["embed", "head"]}
SPACES: Mapping[str, tuple[dict[str, Any], str]] = {  # ours, and the peers' method
    "linear, 12 numbers": ({"methods": ["linear"], **GROUPS}, "linear"),
    "task arithmetic, 12 numbers": ({"methods": ["task_arithmetic"], **GROUPS}, "task_arithmetic"),
    "six methods, numbers and choices": (
        {
            "methods": ["task_arithmetic", "ties", "dare_ties", "breadcrumbs", "linear", "slerp"],
            "parents": "subset",
            "layer_groups": 4,
        },
        "dare_ties",
    ),
}
ONE_NUMBER = ("auto", "nsga2", "tpe", "catcmawm")
TWO_OBJECTIVES = ("auto", "nsga2", "tpe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--items", type=int, default=100)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), arguments.items, arguments.trials)
        for space, (weights, method) in SPACES.items():
            runs = {
                f"{sampler}, one number": [
                    bench.ours(weights, sampler, True, s) for s in range(arguments.seeds)
                ]
                for sampler in ONE_NUMBER
            }
            runs["mergekit-evolve's pycma"] = [bench.evolve(method, s) for s in range(arguments.seeds)]
            _print(f"{space}: best mean", runs, _best, "mergekit-evolve's pycma", arguments.trials)
            runs = {
                f"{sampler}, two objectives": [
                    bench.ours(weights, sampler, False, s) for s in range(arguments.seeds)
                ]
                for sampler in TWO_OBJECTIVES
            }
            runs["mergenetic's NSGA-II (pymoo)"] = [bench.genetic(method, s) for s in range(arguments.seeds)]
            _print(f"{space}: hypervolume", runs, _volume, "mergenetic's NSGA-II (pymoo)", arguments.trials)


class Bench:
    """One worker for all runs. Our studies share a ledger, which saves time and changes no score."""

    def __init__(self, folder: Path, items: int, trials: int) -> None:
        self._folder, self._trials, self._count = folder, trials, 0
        tasks = build_zoo() / "tasks"
        self._tasks = [str(cut_task(tasks / f"{name}_search.yaml", folder, items)) for name in TASKS]
        plan = self._plan({"methods": ["task_arithmetic"]}, "random", False, 0)
        checked = preflight(plan)
        self.parents = checked.pool.parents
        self._worker = Worker(worker_order(checked))
        self._scored: dict[str, tuple[float, float]] = {}

    def ours(self, weights: Mapping[str, Any], sampler: str, one_number: bool, seed: int) -> Pairs:
        """The values of the recipes of one study."""
        plan = self._plan(weights, sampler, one_number, seed)
        results = search.run(plan, open_worker=lambda order: _Kept(self._worker))
        return np.array([[m.value for m in row.values or ()] for row in results.scored])

    def evolve(self, method: str, seed: int) -> Pairs:
        """mergekit-evolve: its genome, its cma set-up (scripts/evolve.py), scored by our worker."""
        models = {str(p.source): ModelReference.parse(str(p.source)) for p in self.parents.values()}
        base = str(self.parents["base"].source)
        definition = ModelGenomeDefinition(
            models=[reference for path, reference in models.items() if path != base],
            merge_method=method,
            base_model=None if method == "linear" else models[base],
            layer_granularity=1,
        )
        genome, found = ModelGenome(definition), []

        def loss(x: Any) -> float:
            found.append(self._score(genome.genotype_merge_config(x).model_dump(mode="json")))
            return -sum(found[-1]) / 2

        start = genome.initial_genotype().view(-1).numpy()
        options = {"maxfevals": self._trials, "seed": seed + 1, "verbose": -9}
        cma.fmin2(loss, start, 1 / 6, options)
        return np.array(found[: self._trials])

    def genetic(self, method: str, seed: int) -> Pairs:
        """pymoo's NSGA-II over mergenetic's genome (merging/*_merger.py), scored by our worker."""
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import ElementwiseProblem
        from pymoo.optimize import minimize

        found: list[tuple[float, float]] = []
        densities = method == "dare_ties"

        class Problem(ElementwiseProblem):  # type: ignore[misc]
            def __init__(inner) -> None:
                super().__init__(n_var=4 if densities else 2, n_obj=2, xl=0, xu=1)

            def _evaluate(inner, x: Any, out: Any, *args: Any, **keywords: Any) -> None:
                found.append(self._score(self._global(method, [float(v) for v in x])))
                out["F"] = [-value for value in found[-1]]

        minimize(Problem(), NSGA2(pop_size=10), ("n_eval", self._trials), seed=seed + 1)
        return np.array(found[: self._trials])

    def _global(self, method: str, x: Sequence[float]) -> dict[str, Any]:
        names = ("math", "lang")
        entries = []
        for place, name in enumerate(names):
            parameters = {"weight": x[place], **({"density": x[2 + place]} if len(x) > 2 else {})}
            entries.append({"model": str(self.parents[name].source), "parameters": parameters})
        base = str(self.parents["base"].source)
        if method == "linear":
            return {"merge_method": method, "models": entries}
        return {"merge_method": method, "models": [{"model": base}, *entries], "base_model": base}

    def _score(self, config: Mapping[str, Any]) -> tuple[float, float]:
        recipe = self._recipe(config)
        if recipe.digest not in self._scored:
            try:
                scores, _ = self._worker.score(recipe)
                first, second = (score.metrics["exact_match"].value for score in scores)
                self._scored[recipe.digest] = first, second
            except TrialFailed:
                self._scored[recipe.digest] = 0.0, 0.0
        return self._scored[recipe.digest]

    def _recipe(self, config: Mapping[str, Any]) -> Recipe:
        """A peer's configuration in our dtype, without int8_mask, which some of its methods do not accept."""
        known = ("merge_method", "models", "slices", "base_model", "parameters")
        kept = {key: _plain(config[key]) for key in known if config.get(key)}
        kept["parameters"] = {k: v for k, v in kept.get("parameters", {}).items() if k != "int8_mask"}
        by_path: dict[str, Parent] = {str(p.source): p for p in self.parents.values()}
        text = yaml.safe_dump({**kept, "dtype": "float32"})
        return from_yaml(text, by_path.__getitem__)[0]

    def _plan(self, weights: Mapping[str, Any], sampler: str, one_number: bool, seed: int) -> Plan:
        self._count += 1
        needs_base = weights["methods"] != ["linear"]
        parents = ("base", "math", "lang") if needs_base else ("math", "lang")
        return read_plan(
            {
                "name": f"bench-{self._count}",
                "parents": {name: f"zoo:{name}" for name in parents},
                "base": "base" if needs_base else None,
                "space": {"weights": dict(weights)},
                "objectives": objectives(self._tasks),
                "search": {
                    "sampler": sampler,
                    "trials": self._trials,
                    "seed": seed,
                    "scalarize": [0.5, 0.5] if one_number else None,
                },
                "engine": ENGINE,
                "storage": f"sqlite:///{self._folder / 'bench.db'}",
            },
            self._folder,
            "bench",
        )


class _Kept:
    """A worker that outlives the study that uses it."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self.ready = worker, worker.ready

    def score(self, recipe: Recipe, held_out: bool = False, part: Any = None) -> Any:
        return self._worker.score(recipe, held_out, part)

    def mine(self, *arguments: Any) -> Any:
        return self._worker.mine(*arguments)

    def forget(self, digests: Any) -> None:
        self._worker.forget(digests)

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _plain(value: Any) -> Any:
    """mergekit's model references as paths, without the keys whose value is None."""
    if isinstance(value, Mapping):
        if "model" in value and isinstance(value["model"], Mapping) and "path" in value["model"]:
            return value["model"]["path"]
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _best(found: Pairs) -> float:
    return float(found.mean(axis=1).max())


def _volume(found: Pairs) -> float:
    return pareto.hypervolume(-found, np.zeros(2))


def _print(
    title: str,
    runs: Mapping[str, Sequence[Pairs]],
    quality: Callable[[Pairs], float],
    peer: str,
    trials: int,
) -> None:
    stops = [trials // 4, trials // 2, trials]
    goal = float(np.mean([quality(found) for found in runs[peer]]))
    print(f"\n{title}")
    print(table_head("", *(f"after {stop}" for stop in stops), f"recipes to the peer's {goal:.3f}"))
    for name, found in runs.items():
        cells = [_interval([quality(one[:stop]) for one in found]) for stop in stops]
        needed = [_needed(one, quality, goal) for one in found]
        shown = ", ".join("never" if n is None else str(n) for n in needed)
        print(table_row(name, *cells, shown), flush=True)


def _needed(found: Pairs, quality: Callable[[Pairs], float], goal: float) -> int | None:
    return next((n for n in range(1, len(found) + 1) if quality(found[:n]) >= goal), None)


def _interval(values: Sequence[float]) -> str:
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()

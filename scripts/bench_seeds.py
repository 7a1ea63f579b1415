"""Do seeds breed, and what are repeats worth? Two measurements on the zoo, of a few minutes.

    python scripts/bench_seeds.py [--trials 60] [--seeds 5] [--items 100]

Seeds: the same two-objective study by nsga2 with and without its seeds (each parent alone, the uniform
average, each method's defaults); printed are the hypervolume of what was scored, from (0, 0), and how many
trials of generation 1 have a gene that only a seed had. Repeats: of 240 proposals in a flat space of many
idle genes, how many express a recipe that was proposed before, with the sampler's own draws and with what
recipesearch does about them. Repeats merge nothing: values are made from the recipe's digest and weights.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
import torch
from bench_zoo_samplers import Bench, _interval, _volume

from recipesearch.plan import SearchPlan, WeightsPlan
from recipesearch.recipe import Parent
from recipesearch.recipe.methods import METHODS
from recipesearch.samplers.per_trial import Known, PerTrialSampler
from recipesearch.space.places import Parts
from recipesearch.space.pool import Pool
from recipesearch.space.seeds import seeds, start
from recipesearch.space.weights import WeightSpace

GENERATION = "NSGAIISampler:generation"
SPACES: Mapping[str, dict[str, Any]] = {
    "all methods, 4 groups, filters": {
        "methods": tuple(METHODS),
        "parents": "subset",
        "layer_groups": 4,
        "filters": ("mlp",),
    },
    "eight methods, subsets": {
        "methods": (
            "linear",
            "slerp",
            "task_arithmetic",
            "ties",
            "dare_ties",
            "della",
            "breadcrumbs",
            "karcher",
        ),
        "parents": "subset",
    },
    "methods without weights, subsets": {
        "methods": ("karcher", "model_stock", "sce", "ram"),
        "parents": "subset",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--items", type=int, default=100)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    _seeding(arguments.trials, arguments.seeds, arguments.items)
    _repeats(arguments.seeds)


def _seeding(trials: int, count: int, items: int) -> None:
    weights = {"methods": ["linear", "task_arithmetic", "ties"], "layer_groups": 4, "own": ["embed", "head"]}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), items, trials)
        seeded = [bench.ours(weights, "nsga2", False, seed) for seed in range(count)]
        storage = f"sqlite:///{scratch}/bench.db"
        studies = [
            optuna.load_study(study_name=n, storage=storage) for n in optuna.get_all_study_names(storage)
        ]
        with patch("recipesearch.study.study.seeds", lambda space: []):
            bare = [bench.ours(weights, "nsga2", False, seed) for seed in range(count)]
    third = trials // 3
    print(f"\n| {count} search seeds | hypervolume after {third} | after {trials} |\n|---|---|---|")
    for name, runs in (("with seeds", seeded), ("without", bare)):
        cells = [_interval([_volume(run[:stop]) for run in runs]) for stop in (third, trials)]
        print(f"| {name} | {cells[0]} | {cells[1]} |")
    found = [_descendants(study.trials) for study in studies]
    print(f"trials of generation 1 with a value that only a seed had, by study: {found}", flush=True)


def _descendants(trials: Sequence[optuna.trial.FrozenTrial]) -> str:
    first = [t for t in trials if t.system_attrs.get(GENERATION) == 0]
    fixed = {
        (n, v) for t in first if "seed" in t.user_attrs for n, v in t.params.items() if isinstance(v, float)
    }
    fixed -= {(n, v) for t in first if "seed" not in t.user_attrs for n, v in t.params.items()}
    second = [t for t in trials if t.system_attrs.get(GENERATION) == 1]
    return f"{sum(bool(fixed & set(t.params.items())) for t in second)} of {len(second)}"


def _repeats(count: int) -> None:
    print("\n| repeats of 240 proposals | sampler | genes | its own draws | ours |\n|---|---|---|---|---|")
    for title, settings in SPACES.items():
        pool = {name: Parent(name, f"/models/{name}") for name in ("base", "a", "b", "c", "d")}
        parts = Parts(("embed",), ("head",), ("norm",))
        depths = dict.fromkeys(pool, 8)
        space = WeightSpace(WeightsPlan(**settings), Pool(pool, "base", depths, parts, "float32", 1))
        for sampler in ("nsga2", "tpe"):
            own = [_count(space, sampler, seed, False) for seed in range(count)]
            ours = [_count(space, sampler, seed, True) for seed in range(count)]
            print(
                f"| {title} | {sampler} | {len(space.genes)} | {_interval(own)} | {_interval(ours)} |",
                flush=True,
            )


def _count(space: WeightSpace, sampler: str, seed: int, counter: bool) -> float:
    tried: set[str] = set()

    def repeated(genome: Mapping[str, Any]) -> bool:
        return space.express(genome).digest in tried

    known = Known(repeated, space.active) if counter else Known()
    composed = PerTrialSampler(sampler, SearchPlan(seed=seed), space.genes, start(space), known)
    study = optuna.create_study(sampler=composed, directions=["maximize", "maximize"])
    for _, genome in seeds(space):
        study.enqueue_trial(genome, user_attrs={"seed": "one"})
    repeats = 0
    for _ in range(240):
        trial = study.ask(space.genes)
        _ = trial.relative_params
        digest = space.express(trial.params).digest
        repeats += digest in tried
        tried.add(digest)
        study.tell(trial.number, _values(digest, trial.params))
    return float(repeats)


def _values(digest: str, genome: Mapping[str, Any]) -> list[float]:
    """Two smooth values of the numeric genes, and a part of the recipe's own."""
    numbers = np.array([value for value in genome.values() if isinstance(value, float)])
    luck = int(digest[:6], 16) / 16**6
    middle = float(((numbers - 0.5) ** 2).mean()) if len(numbers) else 0.0
    return [luck / 3 - middle, float(numbers.mean() if len(numbers) else 0.0) - luck / 3]


if __name__ == "__main__":
    main()

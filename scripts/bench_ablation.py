"""What each part of merge_gp is worth: the sampler with one part taken away, on the zoo.

    python scripts/bench_ablation.py FOLDER [--spaces demo six] [--zoos 0 1 2 3] [--seeds 0 1] [--trials 50]

The variants are: raw genes instead of merge coordinates; no known noise; random candidates instead of steps
from good merges; gains that are not weighed by news (see MergeModel.worth). Measures and budgets are as in
bench_search.py. The last line is the whole sampler with the front by posterior means, not the measured
front. Each cell: mean ± one standard error, and the mean difference from the whole sampler on the same zoo
and search seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import torch
from bench_search import Cell, front_volume, held_out_volume, run_study, study_plan
from markdown_tables import table_head, table_row
from optuna.distributions import FloatDistribution
from quick_worker import QuickZoo

from recipesearch.checking.preflight import preflight
from recipesearch.samplers import merge_model
from recipesearch.samplers.moves import Moves
from recipesearch.samplers.outcomes import Outcome
from recipesearch.space.coordinates import Coordinates, CoordinateSystem
from recipesearch.space.positions import to_unit

STEPS = (25, 50)
WHOLE, POSTERIOR = "merge_gp", "merge_gp, posterior front"


def raw_genes(system: CoordinateSystem, points: Sequence[Coordinates]) -> Any:
    """Each numeric gene's position in its range, idle or not."""
    numbers = {n: g for n, g in system.space.genes.items() if isinstance(g, FloatDistribution)}
    genomes = [system.genome(system.canonical(point)) for point in points]
    return np.array([[to_unit(gene, genome[name]) for name, gene in numbers.items()] for genome in genomes])


def without_noise(original: Callable[..., Any]) -> Callable[..., Any]:
    """The latent values, with noise of variance 0."""

    def latent(self: Outcome, measured: Any) -> Any:
        values, noise = original(self, measured)
        return values, np.zeros_like(noise)

    return latent


def anywhere(self: Moves, points: Sequence[Coordinates], kind: Any = None) -> Coordinates:
    """A random point instead of a step."""
    kinds = self.system.kinds
    return self.anywhere(kind or kinds[int(self.chance.integers(len(kinds)))])


def no_weighing(self: Any, predicted: Any) -> Any:
    """Every score counts as news."""
    return 1.0


PATCHES: Mapping[str, tuple[Any, str, Any]] = {
    "raw genes": (merge_model, "features", raw_genes),
    "no known noise": (Outcome, "latent", without_noise(Outcome.latent)),
    "random candidates": (Moves, "near", anywhere),
    "no weighing by news": (merge_model.MergeModel, "_news", no_weighing),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--spaces", nargs="+", default=["demo", "six"])
    parser.add_argument("--zoos", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--trials", type=int, default=50)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    for space in arguments.spaces:
        _print(space, dict(_runs(space, arguments)))


def _runs(space: str, arguments: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, float]]]]:
    whole = [_kept(space, WHOLE, zoo, seed, arguments) for zoo in arguments.zoos for seed in arguments.seeds]
    yield WHOLE, [found["measured"] for found in whole]
    for variant in PATCHES:
        found = [
            _kept(space, variant, zoo, seed, arguments) for zoo in arguments.zoos for seed in arguments.seeds
        ]
        yield variant, [one["measured"] for one in found]
    yield POSTERIOR, [found["posterior"] for found in whole]


def _kept(space: str, variant: str, zoo: int, seed: int, arguments: argparse.Namespace) -> Any:
    file = arguments.folder / f"{space}-{variant.replace(' ', '-')}-z{zoo}-s{seed}.json"
    if not file.exists():
        with _patched(variant):
            found = _measure(Cell(space, "merge_gp", zoo, seed, arguments.trials, 150, 0, "front"))
        file.write_text(json.dumps(found))
        print(file.stem, found, flush=True)
    return json.loads(file.read_text())


@contextmanager
def _patched(variant: str) -> Iterator[None]:
    if variant == WHOLE:
        yield
        return
    owner, name, replacement = PATCHES[variant]
    with mock.patch.object(owner, name, replacement):
        yield


def _measure(cell: Cell) -> dict[str, dict[str, float]]:
    zoo = QuickZoo(cell.zoo, cell.items)
    with tempfile.TemporaryDirectory() as scratch:
        plan = study_plan(cell, Path(scratch))
        parents = tuple(preflight(plan).pool.parents.values())
        scored, members = run_study(plan, parents, zoo)
    measured = {str(step): front_volume(scored[:step], parents, zoo) for step in STEPS}
    return {
        "measured": measured,
        "posterior": {str(cell.trials): held_out_volume(zoo, members, parents)},
    }


def _print(space: str, runs: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    print(f"\n{space}: held-out hypervolume")
    print(table_head("", *(f"{step} recipes" for step in STEPS)))
    for variant, found in runs.items():
        print(table_row(variant, *(_cell(variant, found, runs[WHOLE], str(step)) for step in STEPS)))


def _cell(variant: str, found: Sequence[Any], whole: Sequence[Any], step: str) -> str:
    if step not in found[0]:
        return ""
    values, others = (np.array([one[step] for one in runs]) for runs in (found, whole))
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    text = f"{values.mean():.3f} ± {error:.3f}"
    return text if variant == WHOLE else f"{text} ({np.mean(values - others):+.3f})"


if __name__ == "__main__":
    main()

"""Which NSGA-II operators suit a small budget: hypervolume on synthetic landscapes, not on the zoo.

    python scripts/bench_operators.py [--seeds 10] [--trials 150]

Two objectives, each a bell around an optimum of its own in [0, 1.5]^d with random curvatures, measured with
the noise of 300 items; in one landscape a categorical gene chooses between two sets of optima. Prints the
mean hypervolume of the true values, from (0, 0), after a third, two thirds and all of the trials.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler
from optuna.samplers.nsgaii import PolynomialMutation, SBXCrossover

from recipesearch import pareto

Values = NDArray[np.float64]
LANDSCAPES = ((6, False), (12, False), (19, True))  # genes, with a choice
ITEMS = 300


def _nsga2(
    population: int, eta: float, mutation_eta: float, mutation: float | None
) -> Callable[[int], BaseSampler]:
    return lambda seed: NSGAIISampler(
        population_size=population,
        crossover=SBXCrossover(eta=eta),
        mutation=PolynomialMutation(eta=mutation_eta),
        mutation_prob=mutation,
        seed=seed,
    )


SETTINGS: Mapping[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "population 20, Optuna's (SBX 20, mutation 20, 1/n)": _nsga2(20, 20, 20, None),
    "population 10, Optuna's": _nsga2(10, 20, 20, None),
    "population 10, SBX 2": _nsga2(10, 2, 20, None),
    "population 10, SBX 2, mutation 5": _nsga2(10, 2, 5, None),
    "population 10, SBX 2, mutation 5, 0.2 (chosen)": _nsga2(10, 2, 5, 0.2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=150)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| NSGA-II | " + " | ".join(f"{d} genes{', a choice' * c}" for d, c in LANDSCAPES) + " |")
    print("|---" * (len(LANDSCAPES) + 1) + "|")
    for name, build in SETTINGS.items():
        cells = []
        for genes, choice in LANDSCAPES:
            runs = [
                _run(build(s), _landscape(s, genes, choice), arguments.trials, s)
                for s in range(arguments.seeds)
            ]
            cells.append(" ".join(f"{volume:.3f}" for volume in np.mean(runs, axis=0)))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def _landscape(seed: int, genes: int, choice: bool) -> Callable[[optuna.Trial], Values]:
    draw = np.random.default_rng(seed)
    optima = draw.uniform(0.1, 1.4, (2, 2, genes))
    curvature = draw.exponential(1.0, (2, 2, genes))
    height = draw.uniform(0.7, 1.0, (2, 2))

    def values(trial: optuna.Trial) -> Values:
        kind = trial.suggest_categorical("kind", [0, 1]) if choice else 0
        x = np.array([trial.suggest_float(f"x{i}", 0.0, 1.5) for i in range(genes)])
        distance = 6 / genes * (curvature[:, kind] * (x - optima[:, kind]) ** 2).sum(axis=1)
        return np.asarray(height[:, kind] * np.exp(-distance))

    return values


def _run(
    sampler: BaseSampler, landscape: Callable[[optuna.Trial], Values], trials: int, seed: int
) -> list[float]:
    study = optuna.create_study(directions=["maximize"] * 2, sampler=sampler)
    noise, truth = np.random.default_rng(seed + 1000), []
    for _ in range(trials):
        trial = study.ask()
        truth.append(landscape(trial))
        study.tell(trial, list(noise.binomial(ITEMS, truth[-1]) / ITEMS))
    losses = -np.array(truth)
    return [pareto.hypervolume(losses[: trials * part // 3], np.zeros(2)) for part in (1, 2, 3)]


if __name__ == "__main__":
    main()

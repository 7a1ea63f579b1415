"""All samplers on synthetic landscapes: where the rule of ``auto`` comes from.

    python scripts/bench_samplers.py [--seeds 8] [--trials 300] [--only mixed ...]

One number: accuracy is the logistic of a random quadratic in d genes, half of it rotated, that breaks down
where the genes are large together, measured with the noise of 100 items (6, 24 and 64 numeric genes; and 6
with two choices, which move the optimum). Printed is the true accuracy of the genome with the best measured
one, after a third and after all of the trials: mean and 95% interval over seeds. Two objectives: two such
landscapes with optima of their own over 8 genes and a choice; printed is the hypervolume of the true values
of what was measured, from (0, 0). Every sampler runs as in a study, and starts in the middle.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from recipesearch import pareto
from recipesearch.plan import SearchPlan
from recipesearch.samplers.fit import SAMPLERS
from recipesearch.samplers.per_trial import PerTrialSampler

Array = NDArray[np.float64]
ITEMS = 100
BEST = 0.622  # the true accuracy of each landscape's optimum
SLOW = {"gp": (24, 100)}  # more genes, or more trials, take it hours


@dataclass(frozen=True)
class Problem:
    """Genes and true values, shape (objectives,), by genome."""

    genes: dict[str, BaseDistribution]
    truth: Callable[[Mapping[str, object]], Array]
    objectives: int = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=[*PROBLEMS])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    third = arguments.trials // 3
    for name in arguments.only:
        print(f"\n| {name} | after {third} | after {arguments.trials} | s |\n|---|---|---|---|")
        for sampler, ability in SAMPLERS.items():
            problem = PROBLEMS[name](0)
            choices = any(isinstance(g, CategoricalDistribution) for g in problem.genes.values())
            if (choices and not ability.choices) or (problem.objectives > 1 and not ability.objectives):
                continue
            genes, most = SLOW.get(sampler, (10**9, 10**9))
            if len(problem.genes) > genes:
                continue
            trials, begun = min(arguments.trials, most), time.perf_counter()
            runs = [_run(sampler, PROBLEMS[name](seed), trials, seed) for seed in range(arguments.seeds)]
            cells = [_interval([run[stop - 1] for run in runs]) for stop in (third, trials)]
            seconds = (time.perf_counter() - begun) / arguments.seeds
            cells[1] = cells[1] if trials == arguments.trials else f"({trials} only)"
            print(f"| {sampler} | {cells[0]} | {cells[1]} | {seconds:.1f} |", flush=True)


def _run(sampler: str, problem: Problem, trials: int, seed: int) -> list[float]:
    """The quality so far after each trial."""
    middle = {
        name: (gene.low + gene.high) / 2
        for name, gene in problem.genes.items()
        if isinstance(gene, FloatDistribution)
    }
    composed = PerTrialSampler(sampler, SearchPlan(seed=seed), problem.genes, middle)
    study = optuna.create_study(sampler=composed, directions=["maximize"] * problem.objectives)
    noise = np.random.default_rng(seed)
    measured, true, quality = [], [], []
    for _ in range(trials):
        trial = study.ask(problem.genes)
        truth = problem.truth(trial.params)
        measured.append(noise.binomial(ITEMS, truth) / ITEMS)
        true.append(truth)
        study.tell(trial.number, list(measured[-1]))
        quality.append(_quality(np.array(measured), np.array(true)))
    return quality


def _quality(measured: Array, true: Array) -> float:
    if measured.shape[1] == 1:
        return float(true[np.argmax(measured[:, 0]), 0])
    chosen = true[pareto.front(-measured)]
    return pareto.hypervolume(-chosen, np.zeros(2))


def _interval(values: Sequence[float]) -> str:
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ± {half:.3f}"


# -- landscapes


def _numeric(count: int) -> Callable[[int], Problem]:
    def make(seed: int) -> Problem:
        genes: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(count)}
        surface = _surface(np.random.default_rng([seed, count]), count)
        return Problem(genes, lambda genome: np.array([surface(_vector(genome, count))]))

    return make


def _mixed(seed: int) -> Problem:
    draw = np.random.default_rng([seed, 99])
    genes: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(6)}
    genes |= {"a": CategoricalDistribution((0, 1, 2, 3)), "b": CategoricalDistribution((0, 1, 2))}
    surfaces = {(a, b): _surface(draw, 6) for a in range(4) for b in range(3)}
    loss = {pair: draw.uniform(0.0, 1.0) for pair in surfaces}
    best = min(loss, key=lambda pair: loss[pair])

    def truth(genome: Mapping[str, object]) -> Array:
        pair = (int(str(genome["a"])), int(str(genome["b"])))
        return np.array([surfaces[pair](_vector(genome, 6), loss[pair] - loss[best])])

    return Problem(genes, truth)


def _two_objectives(seed: int) -> Problem:
    draw = np.random.default_rng([seed, 7])
    genes: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(8)}
    genes["a"] = CategoricalDistribution((0, 1, 2))
    surfaces = {choice: (_surface(draw, 8), _surface(draw, 8)) for choice in range(3)}
    loss = {choice: draw.uniform(0.0, 0.7) for choice in range(3)}

    def truth(genome: Mapping[str, object]) -> Array:
        choice = int(str(genome["a"]))
        return np.array([surface(_vector(genome, 8), loss[choice]) for surface in surfaces[choice]])

    return Problem(genes, truth, objectives=2)


def _surface(draw: np.random.Generator, count: int) -> Callable[..., float]:
    """The true accuracy at a point of the unit box; a further loss of logits may be given."""
    optimum = draw.uniform(0.2, 0.8, count)
    rotation = np.linalg.qr(draw.normal(size=(count, count)))[0]
    shape = np.diag(draw.exponential(1.0, count))
    shape += rotation @ np.diag(draw.exponential(1.0, count)) @ rotation.T
    somewhere = draw.uniform(0.0, 1.0, (500, count)) - optimum
    shape *= 1.5 / np.einsum("ni,ij,nj->n", somewhere, shape, somewhere).mean()
    top = np.log(BEST / (1 - BEST))

    def accuracy(x: Array, loss: float = 0.0) -> float:
        drop = float((x - optimum) @ shape @ (x - optimum))
        broken = max(0.0, float(x.mean()) - max(0.65, float(optimum.mean()) + 0.1))
        return float(np.exp(-20 * broken) / (1 + np.exp(-(top - drop - loss))))

    return accuracy


def _vector(genome: Mapping[str, object], count: int) -> Array:
    return np.array([genome[f"x{i}"] for i in range(count)], dtype=float)


PROBLEMS: Mapping[str, Callable[[int], Problem]] = {
    "6 genes": _numeric(6),
    "24 genes": _numeric(24),
    "64 genes": _numeric(64),
    "mixed": _mixed,
    "two objectives": _two_objectives,
}


if __name__ == "__main__":
    main()

"""Samplers: rebuilt for every trial, they propose complete genomes and draw repeats anew."""

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from recipesearch.errors import PlanError
from recipesearch.plan import SearchPlan
from recipesearch.samplers import PerTrialSampler, require_fit

NUMBERS: dict[str, BaseDistribution] = {f"w.{i}": FloatDistribution(0.0, 1.5) for i in range(4)}
MIXED = {"method": CategoricalDistribution(("linear", "slerp")), **NUMBERS}


def propose(
    sampler: str, genes: Mapping[str, BaseDistribution], trials: int, seed: int = 0, repeated: Any = None
) -> list[dict[str, Any]]:
    search = SearchPlan(sampler=sampler, population=6, seed=seed)  # type: ignore[arg-type]
    start = dict.fromkeys(NUMBERS, 0.75)
    composed = PerTrialSampler(search, genes, start, repeated or (lambda genome: False))
    study = optuna.create_study(sampler=composed)
    for _ in range(trials):
        trial = study.ask(dict(genes))
        study.tell(trial.number, sum(v for v in trial.params.values() if isinstance(v, float)))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random", "cmaes"])
def test_same_seed_same_genomes_other_seed_others(sampler: str) -> None:
    assert propose(sampler, NUMBERS, 20) == propose(sampler, NUMBERS, 20)
    assert propose(sampler, NUMBERS, 20) != propose(sampler, NUMBERS, 20, seed=1)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_every_genome_is_complete_and_in_range(sampler: str) -> None:
    for genome in propose(sampler, MIXED, 30):
        assert set(genome) == set(MIXED)
        assert all(0 <= value <= 1.5 for name, value in genome.items() if name != "method")


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "cmaes"])
def test_later_genomes_are_better_than_random_ones(sampler: str) -> None:
    """The composition must not cut the inner sampler off from what it learns."""
    genomes = propose(sampler, NUMBERS, 120)
    totals = [sum(genome.values()) for genome in genomes]
    assert sum(totals[-20:]) / 20 < 0.6 * sum(totals[:6]) / 6


def test_a_repeat_is_drawn_anew_a_bounded_number_of_times() -> None:
    asked: list[dict[str, Any]] = []

    def always(genome: dict[str, Any]) -> bool:
        asked.append(genome)
        return True

    propose("nsga2", MIXED, 7, repeated=always)
    assert len(asked) == 10, "only the seventh trial is bred; its draws are bounded"
    assert len({tuple(sorted(genome.items())) for genome in asked}) > 1, "and differ"


def test_cmaes_starts_at_the_given_mean() -> None:
    # Optuna draws CMA-ES's very first trial at random; from the second on it samples around the mean.
    genomes = propose("cmaes", NUMBERS, 9)[1:]
    for name in NUMBERS:
        assert abs(sum(genome[name] for genome in genomes) / 8 - 0.75) < 0.3


@pytest.mark.parametrize(
    ("genes", "objectives", "message"),
    [(MIXED, 1, "'method' is a choice"), (NUMBERS, 2, "needs one objective"), ({}, 1, "no genes")],
)
def test_a_sampler_that_does_not_fit_is_refused(
    genes: dict[str, BaseDistribution], objectives: int, message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        require_fit(SearchPlan(sampler="cmaes"), genes, objectives)


def test_cmaes_takes_several_objectives_if_the_plan_says_how() -> None:
    require_fit(SearchPlan(sampler="cmaes", scalarize=(0.5, 0.5)), NUMBERS, 2)

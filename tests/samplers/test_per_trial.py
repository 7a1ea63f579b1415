"""Samplers: rebuilt for each trial, they propose complete genomes, learn, start from seeds, do not repeat."""

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from recipesearch.plan import SearchPlan
from recipesearch.samplers.fit import SAMPLERS
from recipesearch.samplers.per_trial import Known, PerTrialSampler

NUMBERS: dict[str, BaseDistribution] = {
    **{f"w.{i}": FloatDistribution(0.0, 1.5) for i in range(3)},
    "threshold": FloatDistribution(1e-6, 1e-4, log=True),
}
MIXED = {"method": CategoricalDistribution(("linear", "slerp", "ties")), **NUMBERS}
MIDDLE = {**dict.fromkeys(NUMBERS, 0.75), "threshold": 1e-5}


def genes_of(sampler: str) -> dict[str, BaseDistribution]:
    return dict(MIXED if SAMPLERS[sampler].choices else NUMBERS)


def loss(genome: Mapping[str, Any]) -> float:
    total = sum(genome[f"w.{i}"] for i in range(3))
    return float(total + (genome.get("method", "ties") != "ties"))


def propose(
    sampler: str,
    genes: dict[str, BaseDistribution],
    trials: int,
    *,
    seed: int = 0,
    known: Known | None = None,
    seeds: list[dict[str, Any]] | None = None,
    storage: str | None = None,
) -> list[dict[str, Any]]:
    composed = PerTrialSampler(sampler, SearchPlan(population=6, seed=seed), genes, MIDDLE, known)
    study = optuna.create_study(sampler=composed, storage=storage, study_name="s", load_if_exists=True)
    if not study.trials:
        for genome in seeds or []:
            study.enqueue_trial(genome, user_attrs={"seed": "one"})
    while sum(trial.state == TrialState.COMPLETE for trial in study.trials) < trials:
        trial = study.ask(genes)
        _ = trial.relative_params
        study.tell(trial.number, loss(trial.params))
    return [trial.params for trial in study.trials]


# Samplers of any genes; test_merge_gp.py has the one that needs merge coordinates.
ANY_GENES = [name for name, can in SAMPLERS.items() if not can.coordinates]


@pytest.fixture(params=ANY_GENES)
def sampler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_same_seed_same_genomes_other_seed_others(sampler: str) -> None:
    genes = genes_of(sampler)
    assert propose(sampler, genes, 14) == propose(sampler, genes, 14)
    assert propose(sampler, genes, 14) != propose(sampler, genes, 14, seed=1)


def test_a_study_cut_in_two_proposes_what_a_whole_one_does(sampler: str, tmp_path: Any) -> None:
    """Nothing that the sampler learnt lives outside the database."""
    genes, url = genes_of(sampler), f"sqlite:///{tmp_path / 's.db'}"
    for total in (9, 13, 20):
        found = propose(sampler, genes, total, storage=url)
    assert found == propose(sampler, genes, 20)


def test_nothing_of_ours_is_stored_as_a_pickle(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    propose("catcmawm", dict(MIXED), 20, storage=url)
    study = optuna.load_study(study_name="s", storage=url)
    notes = [trial.system_attrs["catcmawm"] for trial in study.trials]
    assert all(set(note) == {"generation", "raw"} for note in notes)
    assert max(note["generation"] for note in notes) >= 2


def test_every_genome_is_complete_and_in_range(sampler: str) -> None:
    genes = genes_of(sampler)
    for genome in propose(sampler, genes, 20):
        assert set(genome) == set(genes)
        for name, gene in genes.items():
            assert gene._contains(gene.to_internal_repr(genome[name])), name


@pytest.mark.parametrize("sampler", [name for name in ANY_GENES if name not in ("random", "gp")])
def test_later_genomes_are_better_than_random_ones(sampler: str) -> None:
    """The composition must not cut the inner sampler off from what it learns."""
    losses = [loss(genome) for genome in propose(sampler, genes_of(sampler), 120)]
    chance = [loss(genome) for genome in propose("random", genes_of(sampler), 60)]
    assert sum(losses[-20:]) / 20 < 0.6 * sum(chance) / 60


@pytest.mark.heavy  # gp imports torch
def test_gp_learns_too() -> None:
    pytest.importorskip("torch")
    losses = [loss(genome) for genome in propose("gp", dict(NUMBERS), 22)]
    assert sum(losses[-6:]) / 6 < 0.5 * sum(losses[:8]) / 8


@pytest.mark.parametrize("sampler", [name for name, can in SAMPLERS.items() if can.starts])
def test_the_best_scored_seed_is_where_a_gaussian_starts(sampler: str) -> None:
    genes = genes_of(sampler)
    seeds = [
        {**MIDDLE, "method": "linear", **dict.fromkeys(["w.0", "w.1", "w.2"], w)} for w in (1.4, 0.3, 0.9)
    ]
    seeds = [{name: genome[name] for name in genes} for genome in seeds]
    near, far = (
        propose(sampler, genes, 11, seeds=given)[3:] for given in (seeds, [seeds[0], seeds[0], seeds[0]])
    )
    assert abs(sum(genome["w.0"] for genome in near) / 8 - 0.3) < 0.25
    assert sum(genome["w.0"] for genome in far) / 8 > 0.9
    if "method" in genes:
        assert sum(genome["method"] == "linear" for genome in near) >= 4


@pytest.mark.parametrize("sampler", [name for name, can in SAMPLERS.items() if can.starts])
def test_a_parent_alone_is_no_place_to_start(sampler: str) -> None:
    """At a corner of the space most draws around it would be cut to the corner again."""
    genes = genes_of(sampler)
    corner = {**MIDDLE, "method": "ties", "w.0": 0.0, "w.1": 0.0, "w.2": 1.5}  # of loss 1.5
    merge = {**MIDDLE, "method": "ties", "w.0": 1.0, "w.1": 1.0, "w.2": 1.0}  # of loss 3
    given = [{name: seed[name] for name in genes} for seed in (corner, merge)]
    found = propose(sampler, genes, 10, seeds=given)[2:]
    assert sum(genome["w.0"] for genome in found) / 8 > 0.6


@pytest.mark.parametrize("sampler", [name for name, can in SAMPLERS.items() if can.breeds])
def test_seeds_are_the_first_generation_and_breed(sampler: str) -> None:
    seeds = [{**MIDDLE, "method": "slerp", "w.0": 0.001 * i} for i in range(6)]
    children = propose(sampler, dict(MIXED), 12, seeds=seeds)[6:]
    inherited = [sum(child[n] == 0.75 for n in ("w.1", "w.2")) for child in children]
    assert sum(inherited) > 0


# -- repeats


def test_a_repeat_is_mutated_in_a_gene_that_is_active() -> None:
    tried: set[tuple[Any, ...]] = set()

    def digest(genome: Mapping[str, Any]) -> tuple[Any, ...]:
        return (genome["method"], round(genome["w.0"], 1))  # the others are idle

    class Memory:
        def __call__(self, genome: Mapping[str, Any]) -> bool:
            return digest(genome) in tried

    known = Known(Memory(), lambda genome: {"method", "w.0"})
    composed = PerTrialSampler("nsga2", SearchPlan(population=6), dict(MIXED), MIDDLE, known)
    study = optuna.create_study(sampler=composed)
    repeats = 0
    for _ in range(30):  # of 48 different recipes
        trial = study.ask(dict(MIXED))
        repeats += digest(trial.params) in tried
        tried.add(digest(trial.params))
        study.tell(trial.number, loss(trial.params))
    assert repeats <= 4, "only where the last of ten mutations is a repeat too"


def test_redraws_are_bounded_and_differ() -> None:
    asked: list[dict[str, Any]] = []

    def always(genome: Mapping[str, Any]) -> bool:
        asked.append(dict(genome))
        return True

    propose("nsga2", dict(MIXED), 7, known=Known(always))
    assert len(asked) == 7 * 10, "for each of the seven trials, the random ones too"
    assert len({tuple(sorted(genome.items())) for genome in asked}) > 1


@pytest.mark.parametrize("sampler", ["cmaes", "sep_cmaes", "catcmawm"])
def test_a_sampler_that_has_converged_still_finds_new_recipes(sampler: str) -> None:
    """It proposes one point for ever; then a gene is mutated, and it is told nothing of that."""
    genes: dict[str, BaseDistribution] = {f"w.{i}": FloatDistribution(0.0, 1.5) for i in range(2)}
    tried: set[tuple[float, ...]] = set()

    def digest(genome: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(round(genome[name], 2) for name in genes)

    known = Known(lambda genome: digest(genome) in tried, lambda genome: set(genes))
    composed = PerTrialSampler(sampler, SearchPlan(), genes, MIDDLE, known)
    study = optuna.create_study(sampler=composed)
    for _ in range(160):
        trial = study.ask(genes)
        tried.add(digest(trial.params))
        study.tell(trial.number, sum((value - 0.7) ** 2 for value in trial.params.values()))
    assert len(tried) > 155


def test_a_gene_of_one_choice_is_never_the_one_to_change() -> None:
    genes = {"only": CategoricalDistribution(("a",)), "w": FloatDistribution(0.0, 1.5)}
    repeated = Known(lambda genome: True, set)
    study = optuna.create_study(
        sampler=PerTrialSampler("random", SearchPlan(seed=1), genes, {"w": 0.5}, repeated)
    )
    genomes = [study.ask(genes).params for _ in range(5)]
    assert {genome["only"] for genome in genomes} == {"a"}
    assert len({genome["w"] for genome in genomes}) == 5

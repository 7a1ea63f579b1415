"""What samplers can search: what does not fit is refused with the way out, and auto always fits."""

import importlib

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from recipesearch.errors import PlanError
from recipesearch.plan import SearchPlan
from recipesearch.samplers import fit
from recipesearch.samplers.fit import SAMPLERS, choose

NUMBERS: dict[str, BaseDistribution] = {f"w.{i}": FloatDistribution(0.0, 1.5) for i in range(4)}
MIXED = {"method": CategoricalDistribution(("linear", "slerp")), **NUMBERS}
SUM = [0.5, 0.5]


def test_a_second_study_may_use_pycma() -> None:
    """optuna_integration hides its own spec once it is imported."""
    importlib.import_module("optuna_integration")
    assert fit._is_installed("optuna_integration")
    assert fit._is_installed("cma")
    assert not fit._is_installed("no_such_package")


@pytest.mark.parametrize("sampler", [name for name, can in SAMPLERS.items() if not can.choices])
def test_choices_are_refused_by_samplers_of_numbers(sampler: str) -> None:
    with pytest.raises(PlanError, match="'method' is a choice"):
        choose(SearchPlan(sampler=sampler), MIXED, 1)
    assert choose(SearchPlan(sampler=sampler), NUMBERS, 1).sampler == sampler


@pytest.mark.parametrize("sampler", [name for name, can in SAMPLERS.items() if not can.objectives])
def test_several_objectives_need_a_scalarization_there(sampler: str) -> None:
    with pytest.raises(PlanError, match=r"needs one objective.*search\.scalarize"):
        choose(SearchPlan(sampler=sampler), NUMBERS, 2)
    assert choose(SearchPlan(sampler=sampler, scalarize=SUM), NUMBERS, 2).sampler == sampler


@pytest.mark.parametrize("sampler", [name for name, can in SAMPLERS.items() if not can.constraints])
def test_bounds_need_a_sampler_that_knows_constraints(sampler: str) -> None:
    with pytest.raises(PlanError, match="does not support bounds"):
        choose(SearchPlan(sampler=sampler), NUMBERS, 1, constrained=True)


def test_a_sampler_whose_packages_are_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipesearch.samplers.fit.find_spec", lambda name: None)
    with pytest.raises(PlanError, match=r"pycma needs two more packages: pip install.*use cmaes"):
        choose(SearchPlan(sampler="pycma"), NUMBERS, 1)
    assert choose(SearchPlan(sampler="cmaes"), NUMBERS, 1).sampler == "cmaes"


def test_a_space_without_genes_is_refused() -> None:
    with pytest.raises(PlanError, match="no genes"):
        choose(SearchPlan(), {}, 1)


@pytest.mark.parametrize("genes", [NUMBERS, MIXED, {f"w.{i}": FloatDistribution(0, 1) for i in range(64)}])
@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("trials", [50, 1000])
def test_auto_chooses_what_fits_and_says_why(
    genes: dict[str, BaseDistribution], objectives: int, constrained: bool, trials: int
) -> None:
    choice = choose(SearchPlan(trials=trials), genes, objectives, constrained)
    named = SearchPlan(sampler=choice.sampler, trials=trials)
    assert choose(named, genes, objectives, constrained).sampler == choice.sampler
    assert choice.reason

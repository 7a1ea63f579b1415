"""Co-evolution: settings are inherited from the mutants in a winner, and perturbed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from recipesearch.mutation.breeder import Breeder, Elite, Means
from recipesearch.mutation.training_process import train_apart
from recipesearch.plan import TRAINING, MutationPlan, read_plan
from recipesearch.recipe import Parent, Recipe, Slice, Source, freeze
from recipesearch.search.inheritance import settings_for
from recipesearch.study.mutants import Mutant, Mutants
from recipesearch.study.storage import Database
from recipesearch.workers.worker import Worker

PLAIN = {name: Parent(name, f"/models/{name}") for name in ("math", "lang")}


def merge(**weights: float) -> Recipe:
    sources = (Source(MODELS[name], None, freeze({"weight": weight})) for name, weight in weights.items())
    return Recipe("linear", (Slice(tuple(sources)),))


def mutant(digest: str, recipe: Recipe) -> Parent:
    return Parent(digest, recipe, None, str(Path("/bred") / digest))


MODELS = dict(PLAIN)
MODELS["slow"] = mutant("slow", merge(math=0.5, lang=0.5))
MODELS["quick"] = mutant("quick", merge(slow=0.9, lang=0.1))  # made of slow, which has had its say
RATES = {"slow": 1e-5, "quick": 1e-3}


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., MutationPlan]:
    """A function (recipe, perturb, seed=0, attempt=0) -> settings, in a database that knows the mutants."""
    database = Database(f"sqlite:///{tmp_path}/study.db")
    settings = {key: getattr(MutationPlan(), key) for key in TRAINING}
    for name, rate in RATES.items():
        record = {"settings": settings | {"learning_rate": rate, "batch": 64, "max_kl": 9.0}}
        Mutants(database).add(Mutant(name, "evo.e1", 1, "source", name, True, "better", record))

    def ask(recipe: Recipe, perturb: float, seed: int = 0, attempt: int = 0) -> MutationPlan:
        raw = {
            "name": "evo",
            "parents": {"math": "zoo:math", "lang": "zoo:lang"},
            "space": {"weights": {"methods": ["linear"]}},
            "objectives": [{"task": "addition", "metric": "acc"}],
            "search": {"seed": seed},
            "mutation": {"perturb": perturb},
        }
        plan = read_plan(raw, Path(), "test")
        breeder = Breeder(plan, Means(database, Worker, train_apart))
        return settings_for(Elite.of(recipe, 1, "knee"), plan, breeder, attempt)

    return ask


Asked = Callable[..., MutationPlan]
TINY = 1e-9  # perturbs nothing that is seen


def test_without_perturbation_all_are_mutated_as_the_file_says(asked: Asked) -> None:
    assert asked(merge(quick=1.0), 0.0) == MutationPlan()


def test_a_merge_of_plain_parents_starts_from_the_file(asked: Asked) -> None:
    assert asked(merge(math=0.5, lang=0.5), TINY).learning_rate == 1e-4


@pytest.mark.parametrize(
    ("weights", "rate"),
    [
        ({"slow": 0.7, "quick": 0.3}, 1e-5),
        ({"slow": 0.3, "quick": 0.7}, 1e-3),
        ({"math": 0.9, "quick": 0.1}, 1e-3),  # and not slow's, of which quick was made
    ],
)
def test_the_mutant_with_the_largest_part_hands_its_settings_on(
    weights: dict[str, float], rate: float, asked: Asked
) -> None:
    assert asked(merge(**weights), TINY).learning_rate == rate


def test_a_merge_of_a_merge_inherits_through_it(asked: Asked) -> None:
    inner = merge(quick=0.8, math=0.2)
    MODELS["inner"] = Parent(inner.digest, inner)
    assert asked(merge(inner=0.5, lang=0.5), TINY).learning_rate == 1e-3


def test_what_is_perturbed_stays_within_reason_and_follows_from_seed_and_winner(asked: Asked) -> None:
    many = [asked(merge(quick=1.0), 0.5, seed) for seed in range(200)]
    rates = sorted(plan.learning_rate for plan in many)
    assert rates[0] < 0.5e-3 < 1e-3 < 2e-3 < rates[-1]
    assert 0.8e-3 < rates[100] < 1.25e-3  # the median does not drift
    assert all(plan.steps >= 1 and plan.rank >= 1 and plan.pairs >= 8 for plan in many)
    assert all(isinstance(plan.steps, int) and isinstance(plan.pairs, int) for plan in many)
    assert len({plan.steps for plan in many}) > 10
    assert asked(merge(quick=1.0), 0.5) == asked(merge(quick=1.0), 0.5)
    assert asked(merge(quick=1.0), 0.5) != asked(merge(quick=0.9, math=0.1), 0.5)
    assert asked(merge(quick=1.0), 0.5) != asked(merge(quick=1.0), 0.5, attempt=1)


def test_what_costs_memory_and_time_has_a_bound(asked: Asked) -> None:
    plans = [asked(merge(quick=1.0), 2.0, seed) for seed in range(50)]
    most = {key: max(getattr(plan, key) for plan in plans) for key in ("rank", "pairs", "steps")}
    assert most == {key: 8 * getattr(MutationPlan(), key) for key in most}


def test_what_is_not_a_strength_is_as_the_file_says_now(asked: Asked) -> None:
    """Whatever the mutant was made with: a batch that was too large has to become smaller."""
    plan = asked(merge(quick=1.0), 0.5)
    kept = {"kind", "chosen", "samples", "temperature", "batch", "max_length", "max_margin", "max_kl"}
    assert {key: getattr(plan, key) for key in kept} == {key: getattr(MutationPlan(), key) for key in kept}

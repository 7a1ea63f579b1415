"""Diversity, by hand on small cases, and on a study whose generations Optuna numbers itself."""

import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from recipesearch.analysis.credit import hypervolume_by_parent
from recipesearch.analysis.distances import behavioural, genotypic
from recipesearch.analysis.generations import Generation, converged, generations, item_gains, item_values
from recipesearch.checking.members import open_preflight
from recipesearch.plan import Plan
from recipesearch.recipe import Conditional, Parent, Recipe, Slice, Source
from recipesearch.recipe.shares import parent_shares
from recipesearch.score import Conditions, Measurement, Seconds, TaskScore
from recipesearch.search import run as search
from recipesearch.study.ledger import Ledger
from recipesearch.study.results import Results, Row
from recipesearch.study.storage import Database
from recipesearch.workers.worker import Worker

A, B, C = (Parent(letter * 64, f"/models/{letter}") for letter in "abc")
GENES = {
    "method": CategoricalDistribution(("linear", "slerp", "ties")),
    "weight": FloatDistribution(0.0, 2.0),
    "step": FloatDistribution(1e-4, 1e-2, log=True),
}
ONE = {"method": "linear", "weight": 0.5, "step": 1e-4}
OTHER = {"method": "ties", "weight": 1.0, "step": 1e-3}
ALL = set(GENES)


# -- distances


def test_genotypic_distance_is_by_range_by_logarithm_and_by_choice() -> None:
    assert genotypic(GENES, [ONE, OTHER]) == pytest.approx((1 + 0.25 + 0.5) / 3)
    # Three genomes, two of them equal: the pairs are 0 and twice the above.
    assert genotypic(GENES, [ONE, OTHER, ONE]) == pytest.approx(2 / 3 * (1 + 0.25 + 0.5) / 3)


def test_a_gene_counts_where_it_is_active_in_either() -> None:
    assert genotypic(GENES, [ONE, OTHER], [{"weight"}, {"weight"}]) == pytest.approx(0.25)
    assert genotypic(GENES, [ONE, OTHER], [{"weight"}, {"step"}]) == pytest.approx((0.25 + 0.5) / 2)
    # A pair's features are its own: here 0.25 over one, and twice 0.5 over one.
    third = ONE | {"weight": 1.5}
    sets = [{"weight"}, {"weight"}, {"weight"}]
    assert genotypic(GENES, [ONE, OTHER, third], sets) == pytest.approx((0.25 + 0.5 + 0.25) / 3)


def test_one_genome_has_no_diversity_and_equal_ones_none_at_all() -> None:
    assert genotypic(GENES, [ONE]) is None
    assert genotypic({}, [{}, {}]) is None
    assert genotypic(GENES, [ONE, ONE, dict(ONE)]) == 0.0
    assert behavioural(np.array([[1.0, 0.0]])) is None
    assert behavioural(np.array([[1.0, 0.0]] * 3)) == 0.0


def test_behavioural_distance_is_the_share_of_items_in_dispute() -> None:
    assert behavioural(np.array([[1.0, 1, 0, 0], [1, 0, 0, 1]])) == 0.5
    assert behavioural(np.array([[0.2, 1.0], [0.6, 1.0]])) == pytest.approx(0.2)


def test_an_item_that_one_of_the_two_lacks_is_left_out() -> None:
    values = np.array([[1.0, 0.0, np.nan], [0.0, 0.0, 1.0], [np.nan, np.nan, np.nan]])
    assert behavioural(values) == 0.5
    assert behavioural(values[1:]) is None


answers = st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=6)


@given(answers)
def test_diversity_is_within_bounds_and_knows_no_order(values: list[list[float]]) -> None:
    forth, back = behavioural(np.array(values)), behavioural(np.array(values[::-1]))
    assert forth == pytest.approx(back)
    assert 0.0 <= forth <= 1.0
    genes = {name: FloatDistribution(0.0, 1.0) for name in "xyz"}
    genomes = [dict(zip("xyz", row, strict=True)) for row in values]
    assert genotypic(genes, genomes) == pytest.approx(forth), "one distance, two kinds of features"


# -- shares


def recipe(method: str, *slices: Slice, base: Parent | None = None) -> Recipe:
    return Recipe(method, slices, base)


def weighted(*pairs: tuple[Parent, Any], layers: tuple[int, int] | None = None) -> Slice:
    return Slice(tuple(Source(parent, layers, (("weight", weight),)) for parent, weight in pairs))


SHARES: dict[str, tuple[Recipe, dict[Parent, float]]] = {
    "weights, also negative ones": (recipe("linear", weighted((A, 0.3), (B, -0.1))), {A: 0.75, B: 0.25}),
    "slices count by their layers": (
        recipe("linear", weighted((A, 1.0), layers=(0, 1)), weighted((B, 1.0), layers=(1, 4))),
        {A: 0.25, B: 0.75},
    ),
    "gradients and filters by their mean": (
        recipe("linear", weighted((A, (0.0, 1.0)), (B, (Conditional(2.0, "mlp"), Conditional(1.0))))),
        {A: 0.25, B: 0.75},
    ),
    "a weight for all": (
        Recipe("linear", (Slice((Source(A), Source(B))),), parameters=(("weight", 0.5),)),
        {A: 0.5, B: 0.5},
    ),
    "slerp's t": (
        recipe("slerp", Slice((Source(A), Source(B)), (("t", (0.0, 0.5)),)), base=A),
        {A: 0.75, B: 0.25},
    ),
    "a path by layers, the donor of its config apart": (
        recipe("passthrough", *(Slice((Source(p, r),)) for p, r in ((A, (0, 3)), (B, (3, 4)))), base=C),
        {A: 0.75, B: 0.25, C: 0.0},
    ),
    "an empty slice": (
        recipe("passthrough", Slice((Source(A, (0, 0)),)), Slice((Source(B, (0, 2)),))),
        {A: 0.0, B: 1.0},
    ),
    "no weights": (recipe("karcher", Slice((Source(A), Source(B)))), {A: 0.5, B: 0.5}),
    "the origin of task vectors": (
        recipe("ties", Slice((Source(C), *weighted((A, 0.2), (B, 0.6)).sources)), base=C),
        {A: 0.25, B: 0.75, C: 0.0},
    ),
    "the base alone": (
        recipe("ties", Slice((Source(C), *weighted((A, 0.0)).sources)), base=C),
        {A: 0.0, C: 1.0},
    ),
    "linear's base is an input": (recipe("linear", weighted((A, 1.0), (C, 3.0)), base=C), {A: 0.25, C: 0.75}),
    "a parent alone": (recipe("linear", weighted((B, 0.4))), {B: 1.0}),
}


@pytest.mark.parametrize("case", SHARES)
def test_shares_of_a_recipes_parents(case: str) -> None:
    merged, wanted = SHARES[case]
    found = parent_shares(merged)
    assert found == pytest.approx(wanted)
    assert set(found) == set(merged.parents())


# -- a study by hand


class Named:
    """A space whose recipes are given: a genome names one."""

    def __init__(self, recipes: dict[str, Recipe]) -> None:
        self.recipes = recipes
        self.pool = type("Pool", (), {"parents": {"a": A, "b": B, "c": C}})

    def express(self, genome: Any) -> Recipe:
        return self.recipes[genome["which"]]

    def active(self, genome: Any) -> set[str]:
        return {"which"}


def by_hand(folder: Path, rows: list[tuple[str, tuple[float, ...] | None]], population: int = 2) -> Results:
    """Results whose rows are (recipe, losses): of two items, the first's value is the first loss, ..."""
    conditions = Conditions("transformers", "cpu", 1, 64, "torch x", "float32", False)
    ledger = Ledger(Database(f"sqlite:///{folder}/x.db"), conditions)
    width = max(len(values) for _, values in rows if values)
    found = []
    for number, (name, values) in enumerate(rows):
        for place, value in enumerate(values or ()):
            items = {"0": {"acc": value}, "1": {"acc": 0}, "2": {"acc": [1, 2]}}
            score = TaskScore(f"task{place}", {"acc": Measurement(value, None)}, items)
            ledger.commit(name, "", [score], Seconds(0, 0))
        found.append(
            Row(
                number,
                "complete" if values else "fail",
                name,
                None,
                None,
                {"which": name, "idle": number},
                tuple(Measurement(value, None) for value in values) if values else None,
                None,
                None,
            )
        )
    names = sorted({name for name, _ in rows})
    genes = {"which": CategoricalDistribution(names), "idle": FloatDistribution(0, 10)}
    identity = {
        "parents": {"a": A.digest, "b": B.digest, "c": C.digest},
        "objectives": [
            {"name": f"o{place}", "task": f"task{place}", "metric": "acc", "maximize": False}
            for place in range(width)
        ],
        "search": {"population": population},
        "genes": {name: json.loads(distribution_to_json(gene)) for name, gene in genes.items()},
    }
    return Results(identity, found, ledger)


def test_generations_are_blocks_of_scored_trials(tmp_path: Path) -> None:
    rows: list[Any] = [("x", (1.0, 0.0)), ("bad", None), ("y", (0.0, 1.0)), ("y", (0.0, 1.0))]
    rows += [("y", (0.0, 1.0)), ("z", (0.0, 0.0))]
    results = by_hand(tmp_path, rows)
    history = generations(results, Named({}))  # type: ignore[arg-type]
    assert [generation.trials for generation in history] == [2, 2, 1], "the failed one is none of them"
    assert [generation.distinct for generation in history] == [1.0, 0.5, 1.0]
    # Of the four items with a number two differ; those with a pair of numbers are left out.
    assert [generation.behavioural for generation in history] == [0.5, 0.0, None]
    assert [generation.genotypic for generation in history] == [1.0, 0.0, None], "the idle gene counts not"
    # Up to 1.01: two strips of 0.01 that share their corner, then the whole square.
    volumes = [generation.hypervolume for generation in history]
    assert volumes == pytest.approx([2 * 0.01 * 1.01 - 0.01**2] * 2 + [1.01**2])
    with_idle = generations(results)[0].genotypic
    assert with_idle == pytest.approx((1 + 0.2) / 2), "without the space all genes count"


def test_values_beyond_one_count_by_their_range(tmp_path: Path) -> None:
    results = by_hand(tmp_path, [("x", (10.0,)), ("y", (30.0,)), ("z", (20.0,))])
    # Of 30 and 20, 10 apart, in a range from 0 (the other item) to 30.
    assert behavioural(item_values(results, ["x", "y", "z"])[1:]) == pytest.approx(10 / 30 / 2)


def test_each_objective_has_as_many_columns_of_gains_and_a_minimised_one_is_turned_round(
    tmp_path: Path,
) -> None:
    """Else who alone is good at a task of few items would count for little beside a task of many."""
    results = by_hand(tmp_path, [("x", (0.25, 0.5)), ("y", (1.0, 0.0))])
    gains = item_gains(results, ["x", "y"])
    half = gains.shape[1] // 2
    assert gains.shape[1] == 2 * half
    assert gains.min() >= 0
    assert gains.max() <= 1
    assert gains[0, :half].mean() > gains[1, :half].mean(), "less is better"


def test_hypervolume_is_divided_by_contribution_and_weight(tmp_path: Path) -> None:
    rows: list[Any] = [("x", (0.0, 2.0)), ("y", (1.0, 0.0)), ("same", (1.0, 0.0)), ("worst", (2.0, 2.0))]
    results = by_hand(tmp_path, rows)
    recipes = {
        "x": recipe("linear", weighted((A, 1.0))),
        "y": recipe("linear", weighted((A, 1.0), (B, 3.0))),
        "same": recipe("linear", weighted((B, 1.0))),
    }
    shares = hypervolume_by_parent(results, Named(recipes))  # type: ignore[arg-type]
    # Up to (2.02, 2.02), x alone has a strip of 0.02 by 1; y and its equal 1.02 by 2, half each.
    x, y = 1.0 * 0.02, 1.02 * 2.0 / 2
    total = x + 2 * y
    wanted = {"a": (x + y / 4) / total, "b": (y * 3 / 4 + y) / total, "c": 0.0}
    assert shares == pytest.approx(wanted)
    assert sum(shares.values()) == pytest.approx(1.0)


def test_more_objectives_than_volumes_are_computed_for(tmp_path: Path) -> None:
    results = by_hand(tmp_path, [("x", (0.0,) * 5), ("y", (1.0,) * 5)])
    assert [generation.hypervolume for generation in generations(results)] == [None]
    assert hypervolume_by_parent(results, Named({})) == {}  # type: ignore[arg-type]


def test_a_study_without_scores_has_no_generations(tmp_path: Path) -> None:
    results = by_hand(tmp_path, [("x", (0.0,))])
    begun = Results(results.identity, [], results.ledger)
    assert generations(begun) == []
    assert hypervolume_by_parent(begun, Named({})) == {}  # type: ignore[arg-type]


# -- convergence


def history_of(*pairs: tuple[float | None, float | None], last: int = 4) -> list[Generation]:
    found = [Generation(4, 1.0, 0.5, behaviour, volume) for behaviour, volume in pairs]
    return [*found[:-1], Generation(last, 1.0, 0.5, *pairs[-1])]


def test_a_search_has_converged_when_answers_agree_and_nothing_grows() -> None:
    stuck = history_of((0.4, 0.1), (0.2, 0.3), (0.1, 0.3), (0.1, 0.3), (0.08, 0.3))
    found = converged(stuck)
    assert found is not None
    assert (found.first, found.last, found.still) == (0.4, 0.08, 3)
    assert converged(stuck, below=0.19) is None, "0.08 is a fifth of 0.4"
    assert converged(stuck, still=4) is None, "four generations ago it was 0.1"


@pytest.mark.parametrize(
    "history",
    [
        history_of((0.4, 0.1), (0.2, 0.3), (0.1, 0.3), (0.1, 0.3), (0.3, 0.3)),
        history_of((0.4, 0.1), (0.2, 0.3), (0.1, 0.3), (0.1, 0.3), (0.08, 0.31)),
        history_of((0.4, 0.3), (0.2, 0.3), (0.08, 0.3)),
        history_of((0.4, 0.3), (0.4, 0.3), (0.4, 0.3), (0.4, 0.3), (0.01, 0.3), last=3),
        history_of((0.4, None), (0.2, None), (0.1, None), (0.1, None), (0.08, None)),
        history_of((None, 0.3), (None, 0.3), (None, 0.3), (None, 0.3)),
        [],
    ],
    ids=["diverse", "growing", "too short", "incomplete", "no volumes", "no items", "nothing"],
)
def test_a_search_has_not_converged_while(history: list[Generation]) -> None:
    assert converged(history) is None


# -- a real study


@pytest.fixture(params=["nsga2", "nsga3"])
def study(make_plan: Callable[..., Plan], request: pytest.FixtureRequest) -> tuple[Plan, Results]:
    plan = make_plan(search={"sampler": request.param, "population": 4, "trials": 10, "seed": 1})
    return plan, functools.partial(search.run, open_worker=Worker)(plan)


def test_a_real_study_has_the_samplers_generations_and_the_ledgers_items(
    study: tuple[Plan, Results],
) -> None:
    plan, results = study
    database = Database(plan.storage_url)
    trials = optuna.load_study(study_name=plan.name, storage=database.storage).trials
    key = {"nsga2": "NSGAIISampler:generation", "nsga3": "NSGAIIISampler:generation"}[plan.search.sampler]
    numbers = [trial.system_attrs[key] for trial in trials if trial.values]
    space = open_preflight(plan, database).space
    history = generations(results, space)
    assert [g.trials for g in history] == [len(list(group)) for _, group in itertools.groupby(numbers)]
    rows = [row for row in results.rows if row.values][:4]
    apart = []
    for one, other in itertools.combinations(rows, 2):
        for objective in results.identity["objectives"]:
            mine, theirs = (results.ledger.items(str(r.recipe), objective["task"]) for r in (one, other))
            apart += [mine[item]["exact_match"] != theirs[item]["exact_match"] for item in mine]
    assert len(apart) == 6 * 2 * 40
    assert history[0].behavioural == pytest.approx(sum(apart) / len(apart))
    assert history[0].behavioural > 0.1, "the two parents know different things"
    assert all(g.genotypic is not None and 0 < g.genotypic < 1 for g in history[:2])
    volumes = [g.hypervolume or 0.0 for g in history]
    assert volumes == sorted(volumes)
    shares = hypervolume_by_parent(results, space)
    assert set(shares) == {"math", "lang"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert min(shares.values()) > 0.1, "each parent alone is at an end of the front"

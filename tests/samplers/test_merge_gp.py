"""merge_gp in real studies: exact resumption, every kind of problem, and better recipes than by chance."""

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
import pytest
from example_spaces import space_of

from recipesearch import pareto
from recipesearch.checking.preflight import preflight
from recipesearch.errors import PlanError, TrialFailed
from recipesearch.plan import Plan, ScalarizePlan
from recipesearch.samplers.gaussian_process import first_theta
from recipesearch.samplers.merge_gp import MergeGPSampler
from recipesearch.samplers.merge_model import MergeModel, Seen
from recipesearch.samplers.most_telling import most_telling
from recipesearch.samplers.moves import Moves
from recipesearch.samplers.per_trial import PerTrialSampler
from recipesearch.samplers.problem import Problem
from recipesearch.score import Measurement, mean_of
from recipesearch.search import run as search
from recipesearch.space.coordinates import Coordinates, CoordinateSystem
from recipesearch.study.results import Results
from recipesearch.study.storage import Database
from recipesearch.study.study import Study
from recipesearch.study.trial_ends import TrialEnds
from recipesearch.workers.instant import InstantWorker

run_here = functools.partial(search.run, open_worker=InstantWorker)

MakePlan = Callable[..., Plan]
TRIALS = 16  # three or four seeds, six corners, and the model's proposals


@pytest.fixture
def make(make_paper_plan: MakePlan, paper_parents: dict[str, str]) -> MakePlan:
    """A function for plans with merge_gp over three parents.

    ``objectives`` is their number, ``first`` are more keys of the first one, ``search`` and ``weights``
    replace keys of these sections.
    """

    def plan(
        name: str = "study",
        objectives: int = 2,
        search: dict[str, Any] | None = None,
        first: dict[str, Any] | None = None,
        weights: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Plan:
        goals = [{"task": f"task{number}.yaml", "metric": "exact_match"} for number in range(objectives)]
        return make_paper_plan(
            name,
            parents=paper_parents,
            base="base",
            objectives=[goals[0] | (first or {}), *goals[1:]],
            search={"sampler": "merge_gp", "trials": TRIALS, "seed": 1, **(search or {})},
            space={"weights": {"methods": ["linear", "slerp"], "layer_groups": 2, **(weights or {})}},
            **changes,
        )

    return plan


def history(results: Results) -> list[tuple[Any, ...]]:
    return [(row.number, row.state, row.recipe, dict(row.genome), row.values) for row in results.rows]


def trials_of(plan: Plan) -> list[optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name=plan.name, storage=Database(plan.storage_url).storage)
    return list(study.get_trials(deepcopy=False))


def notes(plan: Plan) -> dict[int, dict[str, Any]]:
    """The stored hyperparameters by trial."""
    return {t.number: t.system_attrs["merge_gp"] for t in trials_of(plan) if "merge_gp" in t.system_attrs}


def first_values(results: Results, *, seeds: bool) -> list[float]:
    """The first objective's values, of the seeds or of the other recipes."""
    return [row.values[0].value for row in results.scored if row.values and bool(row.seed) == seeds]


def volume(results: Results) -> float:
    """The hypervolume of all measured values."""
    values = [[measured.value for measured in row.values] for row in results.scored if row.values]
    return pareto.hypervolume(-np.array(values), np.zeros(len(values[0])))


@contextmanager
def opened(plan: Plan) -> Iterator[Study]:
    with search.open_session(preflight(plan), Database(plan.storage_url), InstantWorker) as session:
        yield session.study


# -- the same study, whatever happens


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """The history and the hyperparameters of the uninterrupted study, once it has run."""
    return {}


@pytest.fixture
def uninterrupted(make: MakePlan, whole: dict[str, Any]) -> dict[str, Any]:
    if not whole:
        plan = make("whole")
        whole |= {"rows": history(run_here(plan)), "notes": notes(plan)}
    return whole


def test_the_same_seed_gives_the_same_study_and_another_seed_another(
    make: MakePlan, uninterrupted: dict[str, Any]
) -> None:
    assert history(run_here(make("again"))) == uninterrupted["rows"]
    assert history(run_here(make("other", search={"seed": 2}))) != uninterrupted["rows"]


STAGES: dict[str, tuple[object, str, tuple[int, ...]]] = {
    "fitting": (MergeGPSampler, "_thetas", (1, 3)),
    "asking, between two genes": (optuna.Trial, "suggest_float", (70, 1, 30)),
    "the recipe known": (Study, "_answered", (7, 1, 7)),
    "scoring": (InstantWorker, "score", (7, 1, 7)),
    "committed, Optuna not told": (TrialEnds, "complete", (7, 1, 7)),
}


@pytest.mark.long  # test_a_study_in_steps_of_one_recipe_is_the_whole_study is of its kind
@pytest.mark.parametrize("stage", STAGES)
def test_interrupted_at_any_trial_it_becomes_the_same_study(
    stage: str, make: MakePlan, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, Any]
) -> None:
    """To the bit, with the hyperparameters, from which later fits start."""
    plan = make("cut")
    owner, name, cuts = STAGES[stage]
    original = getattr(owner, name)
    for at_call in cuts:
        calls = itertools.count(1)

        def interrupted(*rest: Any, at: int = at_call, calls: Any = calls, **named: Any) -> Any:
            if next(calls) == at:
                raise KeyboardInterrupt
            return original(*rest, **named)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                run_here(plan)
    assert history(run_here(plan)) == uninterrupted["rows"]
    assert notes(plan) == uninterrupted["notes"]


def test_a_study_in_steps_of_one_recipe_is_the_whole_study(
    make: MakePlan, uninterrupted: dict[str, Any]
) -> None:
    for trials in range(1, TRIALS + 1):
        found = history(run_here(make("steps", search={"trials": trials})))
    assert found == uninterrupted["rows"]


def test_hyperparameters_are_fitted_now_and_then_and_stored_as_numbers(make: MakePlan) -> None:
    plan = make(search={"trials": 24})
    run_here(plan)
    found = notes(plan)
    counts = [note["scores"] for note in found.values()]
    assert len(counts) >= 4
    assert all(later - one >= 3 for one, later in itertools.pairwise(counts)), "not for every trial"
    for note in found.values():
        assert set(note) == {"scores", "theta"}
        assert len(note["theta"]) == 2
        assert all(isinstance(number, float) for theta in note["theta"] for number in theta)


@pytest.mark.long  # tests/study/test_known.py has tests of its kind
def test_scores_of_other_studies_count_if_they_are_older_than_the_study(
    make: MakePlan, uninterrupted: dict[str, Any]
) -> None:
    """Of other spaces too. Later scores do not change what a resumed study proposes."""
    found = []
    for storage, later in (("sqlite:///one.db", False), ("sqlite:///two.db", True)):
        other = {"search": {"sampler": "random", "trials": 14}, "weights": {"layer_groups": 4}}
        run_here(make("earlier", storage=storage, **other))
        run_here(make("study", storage=storage, search={"trials": 9}))
        if later:
            run_here(make("later", storage=storage, search={"sampler": "random", "seed": 7}))
        found.append(history(run_here(make("study", storage=storage))))
    assert found[0] == found[1]
    assert found[0] != uninterrupted["rows"]


# -- every kind of problem


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_one_to_four_objectives(objectives: int, make: MakePlan) -> None:
    results = run_here(make(objectives=objectives))
    assert len({row.recipe for row in results.scored}) == TRIALS


def test_five_objectives_are_refused(make: MakePlan) -> None:
    with pytest.raises(PlanError, match=r"up to 4 objectives.*auto or nsga3"):
        preflight(make(objectives=5))


SPACES: dict[str, dict[str, Any]] = {
    "one kind": {"methods": ["linear"]},
    "one gene": {"methods": ["slerp"], "layer_groups": 1},
    "extras": {"methods": ["ties", "della", "linear"], "parents": "subset"},
    "any base": {"methods": ["task_arithmetic", "nuslerp"], "base": "any"},
    "not normalised": {"methods": ["linear", "task_arithmetic"], "normalize": False},
    "a gradient with filters": {"layer_groups": 1, "gradient": 2, "filters": ["mlp"]},
    "choices": {"methods": ["passthrough", "karcher", "linear"], "layer_groups": 4},
}


@pytest.mark.long  # test_moves.py has every kind of space
@pytest.mark.parametrize("weights", SPACES.values(), ids=SPACES)
def test_every_kind_of_weight_space(weights: dict[str, Any], make: MakePlan) -> None:
    assert len(run_here(make(weights=weights)).scored) == TRIALS


# Nineteen shares and weights: too many for random draws.
MANY = {"methods": ["linear", "slerp", "task_arithmetic"], "layer_groups": 4, "own": ["embed", "head"]}
SCALARIZE: dict[str, Any] = {
    "weights": [0.7, 0.3],
    "chebyshev": {"kind": "chebyshev", "weights": [0.5, 0.5]},
    "chebyshev, ideal": {"kind": "chebyshev", "weights": [1, 2], "ideal": [0.9, 0.9]},
}


def best_number(plan: Plan) -> float:
    return max(trial.value for trial in trials_of(plan) if trial.value is not None)


@pytest.mark.parametrize("scalarize", SCALARIZE.values(), ids=SCALARIZE)
def test_one_number_gets_better_than_the_seeds(scalarize: Any, make: MakePlan) -> None:
    plan = make(search={"scalarize": scalarize, "trials": 24})
    run_here(plan)
    seeds = [trial.value for trial in trials_of(plan) if "seed" in trial.user_attrs and trial.value]
    assert best_number(plan) > max(seeds)


@pytest.mark.long  # test_fronts_are_better_than_by_chance is of its kind
def test_one_number_is_better_than_by_chance(make: MakePlan) -> None:
    found: dict[str, list[float]] = {"merge_gp": [], "random": []}
    for sampler, seed in itertools.product(found, (1, 2, 3)):
        settings = {"sampler": sampler, "seed": seed, "scalarize": [0.7, 0.3], "trials": 28}
        plan = make(f"{sampler}{seed}", search=settings, weights=MANY)
        run_here(plan)
        found[sampler].append(best_number(plan))
    assert np.mean(found["merge_gp"]) > np.mean(found["random"])


def test_a_minimised_objective_is_minimised(make: MakePlan) -> None:
    results = run_here(make(objectives=1, first={"maximize": False}))
    drawn, seeds = first_values(results, seeds=False), first_values(results, seeds=True)
    assert min(drawn) <= min(seeds)
    assert np.mean(drawn[-6:]) < np.mean(seeds)


@pytest.mark.long  # test_outcomes.py has every scale
@pytest.mark.parametrize("maximize", [True, False])
def test_metrics_of_any_scale(maximize: bool, make: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as perplexities: positive, without a standard error, over several powers of ten."""
    original = InstantWorker._score

    def score(self: InstantWorker, recipe: Any, goals: Any, *rest: Any) -> Any:
        skill = self._skill(recipe, goals[0])
        value = float(np.exp(10 * (skill if maximize else 1.0 - skill)))
        found = original(self, recipe, goals, *rest)
        object.__setattr__(found, "metrics", {"exact_match": Measurement(value, None)})
        return found

    monkeypatch.setattr(InstantWorker, "_score", score)
    results = run_here(make(objectives=1, first={"maximize": maximize}, search={"trials": 20}))
    losses = [results.loss(row)[0] for row in results.scored]
    drawn = [results.loss(row)[0] for row in results.scored if not row.seed]
    assert min(drawn) == min(losses)
    assert np.median(drawn[-6:]) < np.median(losses)


# -- bounds


@pytest.mark.long  # test_bounds_of_any_kind is of its kind
def test_a_bounded_objective_keeps_the_search_within_its_bound(make: MakePlan) -> None:
    """The bound excludes the other objective's best recipes, where an unbounded search goes too."""
    inside = []
    for name, first in (("free", {}), ("bounded", {"bound": 0.8})):
        results = run_here(make(name, search={"trials": 30}, first=first))
        inside.append(sum(value >= 0.8 for value in first_values(results, seeds=False)[-12:]))
    assert inside[1] >= 9
    assert inside[1] > inside[0]


def test_without_a_recipe_within_the_bounds_any_is_a_gain() -> None:
    """The best number so far is far out of bounds, and no recipe near the bounds can equal it."""
    system = CoordinateSystem(space_of({"methods": ("linear",)}))
    points = [system.canonical(Coordinates("linear", None, row[None], np.zeros(0))) for row in np.eye(3)]
    values = [(0.1, 0.95), (0.5, 0.5), (0.85, 0.1)]  # the bounded objective, and the number
    scores = [[Measurement(value, 0.02) for value in row] for row in values]
    unused: Any = None
    problem = Problem(
        system,
        unused,
        (-1, -1),
        lambda: [-0.9, None],
        *[unused] * 2,
        ScalarizePlan(weights=(0.0, 1.0)),
    )
    model = MergeModel(problem, Seen([], points, scores, [], [], [], 3, 9))
    model.condition([first_theta(data) for data in model.data])
    moves = Moves(system, np.random.default_rng(0))
    assert model.worth([moves.near(points[2:]) for _ in range(50)]).max() > 0


@pytest.mark.parametrize("first", [{"within": 0.03}, {"bound": 2.0}], ids=["relative", "out of reach"])
@pytest.mark.parametrize(("objectives", "scalarize"), [(1, None), (2, None), (2, [0.5, 0.5])], ids=str)
def test_bounds_of_any_kind(first: dict[str, float], objectives: int, scalarize: Any, make: MakePlan) -> None:
    settings = {"trials": 13} | ({"scalarize": scalarize} if scalarize else {})
    assert len(run_here(make(objectives=objectives, search=settings, first=first)).scored) == 13


# -- trials without a score


def test_pending_recipes_are_not_proposed_again(make: MakePlan) -> None:
    """Also among the first corners, of which a space of one place has three for each kind."""
    for name, trials in (("corners", 4), ("model", 12)):
        run_here(make(name, search={"trials": trials}, weights={"layer_groups": 1}))
        with opened(make(name, search={"trials": 60}, weights={"layer_groups": 1})) as study:
            asked = [study.ask() for _ in range(10)]
        digests = {candidate.recipe.digest for candidate in asked if candidate is not None}
        assert len(digests) == 10, name


@pytest.mark.long  # test_pending_recipes_are_not_proposed_again is of its kind
def test_a_pending_recipe_changes_the_next_proposal(make: MakePlan) -> None:
    """The model takes its own mean as the pending recipe's score, so the next recipe is elsewhere."""
    found = {}
    for name in ("pending", "failed"):
        run_here(make(name))
        with opened(make(name, search={"trials": 60})) as study:
            asked = [study.ask()]
            assert asked[0] is not None
            if name == "failed":
                study.fail(asked[0], "a cause")
            asked.append(study.ask())
        found[name] = [candidate.recipe.digest for candidate in asked if candidate is not None]
    assert found["pending"][0] == found["failed"][0]
    assert found["pending"][1] != found["failed"][1]


def test_a_running_trial_without_a_recipe_is_passed_over(make: MakePlan) -> None:
    """Another process may be between two genes of its trial."""
    run_here(make(search={"trials": 12}))
    with opened(make(search={"trials": 60})) as study:
        other = study._study.ask()
        name, gene = next((n, g) for n, g in study._space.genes.items() if n.startswith("weight"))
        other.suggest_float(name, gene.low, gene.high)
        assert study.ask() is not None


def test_a_study_with_failed_trials_goes_on(make: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, lambda call: call % 3 == 0)
    results = run_here(make())
    assert len(results.scored) == TRIALS
    assert sum(row.state == "fail" for row in results.rows) >= 7
    recipes = [row.recipe for row in results.rows]
    assert len(set(recipes)) == len(recipes), "a recipe that failed is not tried again"


def test_a_study_whose_seeds_all_fail_still_proposes(make: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, lambda call: call <= 6)
    assert len(run_here(make(search={"trials": 10, "max_failure_rate": 1.0})).scored) == 10


def fail_at(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> None:
    original, calls = InstantWorker.score, itertools.count(1)

    def sometimes(self: InstantWorker, *rest: Any, **named: Any) -> Any:
        if fails(next(calls)):
            raise TrialFailed("non-finite: the merge gives NaN")
        return original(self, *rest, **named)

    monkeypatch.setattr(InstantWorker, "score", sometimes)


def test_repeats_are_passed_over_by_the_sampler_itself(
    make: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second best candidate is better than the best one with a gene drawn at random."""
    mutated: list[Any] = []
    original = PerTrialSampler._mutate
    monkeypatch.setattr(PerTrialSampler, "_mutate", lambda *rest: mutated.append(1) or original(*rest))
    assert len(run_here(make()).scored) == TRIALS
    assert not mutated


def test_the_kind_that_was_tried_least_is_tried_again_at_growing_intervals() -> None:
    """One bad start must not give up a method for good, nor cost many recipes."""
    system = CoordinateSystem(space_of({"methods": ("linear", "slerp", "karcher")}))
    moves = Moves(system, np.random.default_rng(0))
    points = [moves.corner(system.kinds[index]) for index in (0, 0, 1, 2, 2)]
    unused: Any = None
    sampler = MergeGPSampler(Problem(system, *[unused] * 5), 0)
    forced = {drawn: sampler._forced(Seen([], points, [], [], [], [], 5, drawn)) for drawn in range(150)}
    steps = [drawn for drawn, kind in forced.items() if kind]
    gaps = [later - one for one, later in itertools.pairwise(steps)]
    assert {forced[step] for step in steps} == {system.kinds[1]}
    assert len(steps) >= 5
    assert gaps == sorted(gaps)
    assert gaps[-1] > gaps[0]


def test_what_makes_recipes_fail_is_learnt(make: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recipe with any part of one parent fails, as with NaN in that parent."""
    original, outcomes = InstantWorker.score, []

    def score(self: InstantWorker, recipe: Any, *rest: Any, **named: Any) -> Any:
        base = self._parents[0]
        outcomes.append(base not in {s.parent for part in recipe.slices for s in part.sources})
        if not outcomes[-1]:
            raise TrialFailed("non-finite: the merge gives NaN")
        return original(self, recipe, *rest, **named)

    monkeypatch.setattr(InstantWorker, "score", score)
    run_here(make(search={"trials": 16, "max_failure_rate": 1}, weights={"methods": ["linear"]}))
    assert np.mean(outcomes[-8:]) > 0.5


# -- many recipes


@pytest.mark.long  # test_of_very_many_points_... is of its kind
def test_more_recipes_than_a_model_takes(make: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model takes a part, proposals remain better than chance, and hyperparameters are fitted anew."""
    monkeypatch.setattr("recipesearch.samplers.most_telling.MOST_OBSERVATIONS", 14)
    taken: list[int] = []
    original = MergeGPSampler._thetas

    def thetas(self: MergeGPSampler, study: Any, trial: Any, data: Any, count: int) -> Any:
        taken.append(len(data[0].values))
        return original(self, study, trial, data, count)

    monkeypatch.setattr(MergeGPSampler, "_thetas", thetas)
    plan = make(search={"trials": 32})
    results = run_here(plan)
    assert len({row.recipe for row in results.scored}) == 32
    assert max(taken) == 14
    assert max(note["scores"] for note in notes(plan).values()) >= 28
    chance = run_here(make("random", search={"trials": 32, "sampler": "random"}))
    assert volume(results) > 0.97 * volume(chance)


def test_of_very_many_points_the_best_and_a_share_of_the_others_are_taken() -> None:
    losses = np.random.default_rng(0).uniform(size=(1000, 2))
    kept = most_telling(losses)
    assert len(kept) == 400
    assert kept == sorted(set(kept))
    assert set(np.flatnonzero(pareto.front(losses)).tolist()) <= set(kept)
    balanced = np.argsort(losses.sum(axis=1))[:80]
    assert len(set(balanced.tolist()) & set(kept)) > 70
    for objective in range(2):
        worst = np.argsort(losses[:, objective])[-500:]
        assert len(set(worst.tolist()) & set(kept)) > 80, "the model has to learn what is bad"
    assert most_telling(losses[:400]) == list(range(400))


# -- what is gained


def test_fronts_are_better_than_by_chance(make: MakePlan) -> None:
    """Hypervolumes of the scores at equal numbers of recipes, for several random seeds."""

    def found(sampler: str, seed: int) -> float:
        settings = {"sampler": sampler, "trials": 24, "seed": seed}
        return volume(run_here(make(f"{sampler}{seed}", search=settings, weights=MANY)))

    gains = [found("merge_gp", seed) - found("random", seed) for seed in range(2)]
    assert sum(gain > 0 for gain in gains) == 2
    assert np.mean(gains) > 0.01


def test_noise_of_few_items_does_not_lead_the_search_astray(
    make: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each score is drawn from ten items of its own: the last recipes are truly better than the seeds."""
    original, chance = InstantWorker._score, np.random.default_rng(0)
    skills: list[float] = []

    def score(self: InstantWorker, recipe: Any, goals: Any, *rest: Any) -> Any:
        skill = self._skill(recipe, goals[0])
        skills.append(skill)
        drawn = mean_of((chance.random(10) < skill).astype(float).tolist())
        found = original(self, recipe, goals, *rest)
        object.__setattr__(found, "metrics", {"exact_match": drawn})
        return found

    monkeypatch.setattr(InstantWorker, "_score", score)
    run_here(make(objectives=1, search={"trials": 30}))
    assert np.mean(skills[-8:]) > max(np.mean(skills[:10]), 0.75)

"""The loop over eras: what it breeds, that it is found again where it was cut short, and what it leaves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipesearch.checking.members import open_preflight
from recipesearch.errors import MachineFault, PlanError, RefusedInput, StudyError, TrialFailed, WorkerLost
from recipesearch.exporting.export import export
from recipesearch.exporting.verify import verify
from recipesearch.merging.materialize import built_folder
from recipesearch.mutation.breeder import Breeder, Means, Mutation
from recipesearch.mutation.training import train
from recipesearch.mutation.training_order import Trained, TrainingOrder
from recipesearch.parents.identify import identify
from recipesearch.plan import Plan, load_plans
from recipesearch.recipe import Recipe
from recipesearch.search.elites import mutations
from recipesearch.search.evolve import evolve
from recipesearch.search.population import first_era
from recipesearch.study.chain import begun
from recipesearch.study.mutants import Mutant, Mutants
from recipesearch.study.results import Results, open_results
from recipesearch.study.storage import Database
from recipesearch.workers.order import WorkerOrder
from recipesearch.workers.worker import Worker

pytestmark = pytest.mark.usefixtures("one_thread")


MakePlans = Callable[..., tuple[Plan, ...]]
SHORT = {"sampler": "nsga2", "population": 4, "trials": 6, "seed": 1}
HALF = """
merge_method: linear
models:
  - {model: "zoo:math", parameters: {weight: 0.5}}
  - {model: "zoo:lang", parameters: {weight: 0.5}}
dtype: float32
"""


class Interrupted(BaseException):
    """As an interruption raises: nothing catches it."""


class Calls:
    """What is asked of workers and trainings, all in this process; one of them may be interrupted."""

    def __init__(self, at: tuple[str, int] | None = None) -> None:
        self.made: list[str] = []
        self.opened: list[str] = []
        self._at = at

    def note(self, what: str) -> None:
        self.made.append(what)
        if self._at == (what, self.made.count(what)):
            raise Interrupted(what)

    def open(self, order: WorkerOrder) -> Worker:
        calls = self
        self.opened.append(order.name)

        class Noted(Worker):
            def score(self, recipe: Recipe, held_out: bool = False, part: Any = None) -> Any:
                calls.note("gate" if order.name.endswith(".gate") else "score")
                return super().score(recipe, held_out, part)

            def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Any) -> Any:
                calls.note("mine")
                return super().mine(recipe, tasks, wanted)

        return Noted(order)

    def train(self, order: TrainingOrder) -> Trained:
        self.note("train")
        trained = train(order)
        self.note("trained")
        return trained

    def evolve(self, plans: Sequence[Plan]) -> Results:
        return evolve(plans, open_worker=self.open, train=self.train)


Evolved = tuple[tuple[Plan, ...], Calls]


@pytest.fixture(scope="module")
def evolved(raw_plan: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Evolved:
    """A whole run of three eras."""

    path = tmp_path_factory.mktemp("evolved") / "evo.yaml"
    path.write_text(yaml.safe_dump(raw_plan, sort_keys=False))
    plans, calls = load_plans(path), Calls()
    calls.evolve(plans)
    return plans, calls


def database_of(plans: Sequence[Plan]) -> Database:
    return Database(plans[0].storage_url)


def eras_of(plans: Sequence[Plan]) -> list[tuple[Plan, Results]]:
    database = database_of(plans)
    return [open_results(database, plan.name) for plan in plans]


def mutants_of(plans: Sequence[Plan]) -> list[Mutant]:
    table = Mutants(database_of(plans))
    return [mutant for plan in plans for mutant in table.of(plan.name)]


def summary(plans: Sequence[Plan]) -> Any:
    """All that has to be the same after an interruption: recipes, values, parents, mutants."""
    found = [
        (plan.parents, [(row.number, row.recipe, row.seed, row.values) for row in results.rows])
        for plan, results in eras_of(plans)
    ]
    return found, [
        (m.key, m.source, m.digest, m.accepted, m.record["pairs_digest"]) for m in mutants_of(plans)
    ]


def test_each_era_has_the_parents_that_the_last_one_bred(evolved: Evolved) -> None:
    plans, calls = evolved
    pools = [plan.parents for plan, _ in eras_of(plans)]
    assert pools[0] == {"math": "zoo:math", "lang": "zoo:lang"}
    for number, pool in enumerate(pools[1:], 1):
        assert 2 <= len(pool) <= 4
        new = set(pool) - set(pools[number - 1])
        assert new
        assert all(name.startswith(f"e{number}t") for name in new)
    assert calls.made.count("train") == len(mutants_of(plans)) == 2  # none at the last era's end
    assert any(mutant.accepted for mutant in mutants_of(plans))


def test_a_mutant_let_in_is_a_parent_and_one_turned_away_leaves_no_files(
    evolved: Evolved,
) -> None:
    plans, _ = evolved
    digests = {d for _, results in eras_of(plans) for d in results.identity["parents"].values()}
    for mutant in mutants_of(plans):
        assert (plans[0].bred / mutant.key).exists() == mutant.accepted
        assert mutant.accepted or mutant.digest not in digests
    files = {path.name for path in plans[0].bred.iterdir()}
    named = " ".join(ref for plan, _ in eras_of(plans) for ref in plan.parents.values())
    texts = " ".join(path.read_text() for path in plans[0].bred.glob("*.yaml"))
    keys = {mutant.key for mutant in mutants_of(plans)}
    assert {name for name in files if name not in named + texts} <= keys  # no orphans


def test_the_last_front_begins_the_next_era_without_being_scored_again(
    evolved: Evolved,
) -> None:
    plans, _ = evolved
    (_, first), (_, second), _ = eras_of(plans)
    inherited = [row for row in second.rows if row.seed and row.seed.startswith("trial ")]
    fronts = {row.recipe for row in first.front}
    assert {row.recipe for row in inherited} <= fronts
    known = {row.recipe: row.values for row in first.scored}
    assert all(known[row.recipe] == row.values for row in inherited)


def test_only_the_last_era_is_scored_on_held_out_items(evolved: Evolved) -> None:
    *earlier, (_, last) = eras_of(evolved[0])
    assert all(row.held_out is None for _, results in earlier for row in results.rows)
    assert all(row.held_out for row in last.front)


def test_what_no_era_needs_any_more_is_not_kept_on_disk(evolved: Evolved) -> None:
    plans, _ = evolved
    eras = eras_of(plans)
    now = set(eras[-1][1].identity["parents"].values())
    gone = {d for _, results in eras[:-1] for d in results.identity["parents"].values()} - now
    gone |= {d for mutant in mutants_of(plans) for d in (mutant.source, mutant.digest)} - now
    assert gone
    assert not [digest for digest in gone if built_folder(digest).exists()]


def test_running_again_does_nothing_twice(evolved: Evolved) -> None:
    plans, _ = evolved
    before, calls = summary(plans), Calls()
    calls.evolve(plans)
    assert calls.made == calls.opened == []
    assert summary(plans) == before


@pytest.mark.parametrize(
    "at",
    [pytest.param(("mine", 1), marks=pytest.mark.long), ("gate", 1), ("score", 14)],
    ids=lambda at: f"{at[0]}{at[1]}",
)
def test_a_loop_that_was_cut_short_ends_as_if_it_was_not(
    at: tuple[str, int], evolved: Evolved, make_plans: MakePlans
) -> None:
    plans = make_plans()
    with pytest.raises(Interrupted):
        Calls(at).evolve(plans)
    Calls().evolve(plans)
    assert summary(plans) == summary(evolved[0])


@pytest.mark.long
def test_a_winner_of_mutants_is_rebuilt_by_stock_tools(evolved: Evolved, tmp_path: Path) -> None:
    """An export that lies elsewhere, with the study's own files gone: the bundle alone is enough."""
    plans, _ = evolved
    database = database_of(plans)
    plan, results = open_results(database, plans[-1].name)
    accepted = {mutant.digest for mutant in mutants_of(plans) if mutant.accepted}
    checked = open_preflight(plan, database)
    mutant = next(name for name, parent in checked.pool.parents.items() if parent.digest in accepted)
    row = next(row for row in results.scored if row.seed == f"parent {mutant}")
    recipe = export(checked, results, row, tmp_path / "out")
    assert (tmp_path / "out" / "rebuild.sh").exists()
    assert list((tmp_path / "out").glob("adapter-*"))
    assert not list((tmp_path / "out").rglob("pairs.jsonl"))
    away = tmp_path / "away"
    plan.bred.rename(away)
    try:
        proof = verify(recipe)
    finally:
        away.rename(plan.bred)
    assert proof.tensors >= 2 * 39
    assert proof.scores == {
        name: m.value for name, m in zip(results.objectives, row.values or (), strict=True)
    }


def test_what_a_killed_training_left_is_removed(make_plans: MakePlans) -> None:
    """On another host too: the study's lock says that nobody is at work there."""
    plans = make_plans()
    left = plans[0].bred / ".0123456789abcdef.elsewhere-1-1.x.partial"
    left.mkdir(parents=True)
    with pytest.raises(Interrupted):
        Calls(("score", 1)).evolve(plans)
    assert not left.exists()
    assert not begun(database_of(plans), plans[1])


def test_the_base_never_leaves(make_plans: MakePlans) -> None:
    space = {"weights": {"methods": ["linear", "task_arithmetic"]}}
    parents = {"base": "zoo:base", "math": "zoo:math", "lang": "zoo:lang"}
    plans = make_plans({"eras": 2, "pool": 2, "mutants": 0}, parents=parents, base="base", space=space)
    Calls().evolve(plans)
    second, _ = eras_of(plans)[1]
    assert "base" in second.parents
    assert len(second.parents) == 2


def test_a_first_population_may_be_variants_that_other_settings_made(make_plans: MakePlans) -> None:
    """Parents as any other; made once, each with a seed of its own, and not judged."""
    variants = {
        "quick": {"of": "lang", "settings": {"steps": 6}},
        "again": {"of": "lang", "settings": {"steps": 6}},
    }
    plans = make_plans({"eras": 2, "mutants": 0, "variants": variants})
    with pytest.raises(Interrupted):
        Calls(("train", 2)).evolve(plans)
    calls = Calls()
    calls.evolve(plans)
    assert calls.made.count("train") == 1  # the other one was there
    assert "gate" not in calls.made
    first, results = eras_of(plans)[0]
    assert list(first.parents) == ["math", "lang", "quick", "again"]
    assert len(set(results.identity["parents"].values())) == 4
    assert {"parent quick", "parent again"} <= {row.seed for row in results.scored}
    calls = Calls()
    calls.evolve(plans)
    assert calls.made == []


@pytest.mark.parametrize(
    ("variants", "problem"),
    [
        ({"x": {"of": "lamg"}}, "mutation.variants.x.of: .*did you mean 'lang'"),
        ({"math": {"of": "lang"}}, "mutation.variants.math: a parent has this name"),
        ({"x+y": {"of": "lang"}}, "use letters, digits"),
    ],
)
def test_a_variant_of_nobody_is_refused_before_anything_is_run(
    variants: Any, problem: str, make_plans: MakePlans
) -> None:
    with pytest.raises(PlanError, match=problem):
        Calls(("score", 1)).evolve(make_plans({"variants": variants}))


def test_preference_items_that_teach_nothing_are_found_before_the_first_era(make_plans: MakePlans) -> None:
    with pytest.raises(PlanError, match="cannot read the preference pairs"):
        Calls(("score", 1)).evolve(make_plans(preference=["pairs.jsonl"]))


def test_a_monitored_task_that_is_none_is_found_before_the_first_era(make_plans: MakePlans) -> None:
    with pytest.raises(PlanError, match="no_such_task"):
        Calls(("score", 1)).evolve(make_plans({"monitor": [{"task": "no_such_task", "metric": "acc"}]}))


def test_two_loops_of_one_study_do_not_meet(make_plans: MakePlans) -> None:
    """Nor between eras, whose own locks are not held then: one would remove what the other trains."""
    plans = make_plans()
    with (
        database_of(plans).sole_runner("evo"),
        pytest.raises(StudyError, match="'evo' is being run by another process"),
    ):
        Calls(("score", 1)).evolve(plans)


def test_more_eras_may_follow_and_what_was_judged_by_held_out_items_stays(make_plans: MakePlans) -> None:
    plans = make_plans({"eras": 2, "mutants": 0})
    Calls().evolve(plans)
    before = [row.held_out for row in eras_of(plans)[1][1].front]
    assert all(before)
    more = make_plans({"eras": 3, "mutants": 0})
    Calls().evolve(more)
    assert [row.held_out for row in eras_of(more)[1][1].front] == before
    assert len(eras_of(more)) == 3


def test_a_variant_of_a_parent_with_an_adapter_keeps_that_adapter(make_plans: MakePlans) -> None:
    """It is trained on the adapted model, and is that model with one adapter more."""
    variant = {"of": "lang", "settings": {"steps": 4}}
    plans = make_plans({"eras": 2, "mutants": 0, "variants": {"once": variant}})
    with pytest.raises(Interrupted):
        Calls(("score", 1)).evolve(plans)
    (once,) = (path for path in plans[0].bred.iterdir() if path.is_dir())
    parents = {"math": "zoo:math", "lang": f"zoo:lang+{once}"}
    mutation = {"eras": 2, "mutants": 0, "variants": {"twice": variant}}
    plans = make_plans(mutation, name="second", parents=parents)
    with pytest.raises(Interrupted):
        Calls(("score", 1)).evolve(plans)
    means = Means(database_of(plans), Worker, train)
    twice = identify(first_era(plans[0], means).plan.parents["twice"], plans[0].folder)
    assert isinstance(twice.source, Recipe)
    assert twice.source.parents() == (identify(parents["lang"], plans[0].folder),)


def test_a_variant_of_a_parent_that_is_a_recipe_is_made(make_plans: MakePlans, tmp_path: Path) -> None:
    """Its own parents are none of the study's: the worker has only its model."""
    (tmp_path / "half.yaml").write_text(HALF)
    variant = {"of": "half", "settings": {"steps": 4}}
    parents = {"math": "zoo:math", "half": "half.yaml"}
    plans = make_plans({"eras": 2, "mutants": 0, "variants": {"tuned": variant}}, parents=parents)
    with pytest.raises(Interrupted):
        Calls(("score", 1)).evolve(plans)
    means = Means(database_of(plans), Worker, train)
    assert list(first_era(plans[0], means).plan.parents) == ["math", "half", "tuned"]


def test_a_space_that_says_no_parent_alone_keeps_its_pool_and_renews_it(make_plans: MakePlans) -> None:
    """Bred parents have the scores that they were bred for; only the file's own are beyond judgement."""
    space = {"weights": {"methods": ["linear"], "weight": [0.2, 0.8], "layer_groups": 2}}
    plans = make_plans({"pool": 3, "mutants": 0}, space=space, search=SHORT)
    Calls().evolve(plans)
    pools = [list(plan.parents) for plan, _ in eras_of(plans)]
    assert [len(pool) for pool in pools] == [2, 3, 3]
    assert all(pool[:2] == ["math", "lang"] for pool in pools)


def test_a_worker_that_is_lost_while_it_mines_changes_nothing(
    make_plans: MakePlans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the machine's fault, so the mutant is not left out: the run ends, and the next one makes it."""
    plans = make_plans({"eras": 2}, search=SHORT)

    def lose(*_: object) -> None:
        raise MachineFault("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "mine", lose)
        with pytest.raises(StudyError, match="could not be mined: no answer; run again"):
            Calls().evolve(plans)
    assert not begun(database_of(plans), plans[1])
    Calls().evolve(plans)
    assert len(mutants_of(plans)) == 1


@pytest.mark.parametrize("kind", [RefusedInput, TrialFailed, WorkerLost])
def test_a_winner_that_gives_no_pairs_is_left_out(
    make_plans: MakePlans, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """By the failure's class: what only sounds like the machine's fault is the model's."""
    plans = make_plans({"eras": 2}, search=SHORT)

    def refuse(*_: object) -> None:
        raise kind("hang: in words alone")

    monkeypatch.setattr(Worker, "mine", refuse)
    Calls().evolve(plans)
    assert begun(database_of(plans), plans[1])
    assert mutants_of(plans) == []


def test_what_was_mutated_by_hand_is_not_the_loops_to_remove(make_plans: MakePlans) -> None:
    plans = make_plans({"eras": 2, "mutants": 0}, search=SHORT)
    Calls().evolve(plans)
    by_hand = plans[0].bred / "by-hand"
    by_hand.mkdir()
    told = Mutant("by-hand", "evo.e2", 1, "source", "digest", False, "not better", {})
    Mutants(database_of(plans)).add(told)
    Calls().evolve(make_plans({"eras": 3, "mutants": 0}, search=SHORT))
    assert by_hand.exists()


def test_an_elite_is_mutated_again_by_other_draws_until_one_is_let_in(make_plans: MakePlans) -> None:
    """Else the gate, turning the best of all away once, would leave the loop the weaker ones for good."""
    with pytest.raises(Interrupted):
        Calls(("mine", 1)).evolve(make_plans(search=SHORT))
    database = database_of(make_plans())
    plan, results = open_results(database, "evo.e1")
    breeder = Breeder(plan, Means(database, Worker, train))

    def asked() -> Mutation:
        return mutations(open_preflight(plan, database), results, breeder)[0]

    def tell(mutation: Mutation, era: str, accepted: bool) -> None:
        source = mutation.elite.parent.digest
        breeder.mutants.add(Mutant(mutation.key, era, 1, source, mutation.key, accepted, "", {}))

    first = asked()
    tell(first, "evo.e0", accepted=False)
    again = asked()
    assert again.elite == first.elite
    assert len({first.key, again.key}) == len({first.seed, again.seed}) == 2
    tell(again, "evo.e0", accepted=True)
    other = asked()
    assert other.elite != first.elite
    tell(other, plan.name, accepted=False)
    assert asked() == other  # this era's own is found, and not tried twice


def test_an_adapter_that_was_turned_away_goes_even_if_a_kill_came_first(
    make_plans: MakePlans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is written before its folder is removed."""
    plans = make_plans({"eras": 2, "significance": 1e-9})
    with monkeypatch.context() as patch:
        patch.setattr(Breeder, "discard", lambda *_: Calls(("kill", 1)).note("kill"))
        with pytest.raises(Interrupted):
            Calls().evolve(plans)
    (mutant,) = mutants_of(plans)
    assert not mutant.accepted
    assert (plans[0].bred / mutant.key).exists()
    Calls().evolve(plans)
    assert not (plans[0].bred / mutant.key).exists()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"parents": {"math": "zoo:math", "lang": "zoo:base"}}, "parents"),
        ({"base": "math"}, "base"),
        ({"mutation": {"variants": {"new": {"of": "math"}}}}, "mutation.variants"),
    ],
)
def test_a_population_that_was_edited_is_refused(
    changes: dict[str, Any], what: str, make_plans: MakePlans
) -> None:
    """The eras that follow would silently go on with the old one."""
    with pytest.raises(Interrupted):
        Calls(("score", 2)).evolve(make_plans())
    mutation = changes.pop("mutation", None)
    with pytest.raises(PlanError, match=f"started with other {what}"):
        Calls(("score", 1)).evolve(make_plans(mutation, **changes))


def test_a_folder_that_mergekit_would_misread_is_refused_at_once(
    make_plans: MakePlans,
) -> None:
    with pytest.raises(PlanError, match="mergekit reads '@' and '\\+'"):
        Calls(("score", 1)).evolve(make_plans(name="a+b"))

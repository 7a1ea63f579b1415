"""From a winner to a mutant, end to end in this process: once, and after an interruption not again."""

import json

import pytest
import sqlalchemy as sa

pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("trl")

from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import worker_order
from recipesearch.errors import MachineFault, PlanError, StudyError, TrialFailed, WorkerLost
from recipesearch.mutation.bred import keep
from recipesearch.mutation.breeder import Breeder, Elite, Means, recipes_of
from recipesearch.mutation.training import train
from recipesearch.parents.identify import adapted, identify, read_recipe
from recipesearch.plan import ObjectivePlan
from recipesearch.recipe import Parent, Recipe, Slice, Source, freeze
from recipesearch.recipe.mergekit_yaml import to_yaml
from recipesearch.study.ledger import Ledger
from recipesearch.study.mutants import Mutants
from recipesearch.study.storage import Database
from recipesearch.workers.worker import Worker

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = {"steps": 4, "pairs": 16, "samples": 2, "rank": 4}


class Counted:
    """What a Breeder starts, in this process, and counted."""

    def __init__(self):
        self.workers, self.scores, self.trainings = 0, 0, 0

    def worker(self, order):
        self.workers += 1
        worker = Worker(order)
        score = worker.score

        def counted(*arguments):
            self.scores += 1
            return score(*arguments)

        worker.score = counted
        return worker

    def train(self, order):
        self.trainings += 1
        return train(order)

    @property
    def all(self):
        return self.workers, self.scores, self.trainings


@pytest.fixture
def plan(make_plan, small_tasks):
    task = small_tasks["addition_b_preference"]
    return make_plan(preference=[task], mutation=SETTINGS)


@pytest.fixture
def database(plan):
    database = Database(plan.storage_url)
    yield database
    database.engine.dispose()


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
def breeder(plan, database, counted):
    return Breeder(plan, Means(database, counted.worker, counted.train))


@pytest.fixture(scope="module")
def family(zoo):
    return {name: identify(f"zoo:{name}", zoo) for name in ("math", "lang")}


def merge(*parents, weights=(0.6, 0.4)):
    sources = (Source(p, None, freeze({"weight": w})) for p, w in zip(parents, weights, strict=True))
    return Recipe("linear", (Slice(tuple(sources)),), parents[0], dtype="float32")


@pytest.fixture(scope="module")
def elite(family):
    return Elite.of(merge(*family.values()), 3, "knee")


def mined(breeder, plan, elite):
    """The mutation of an elite, and its pairs by a live model."""
    mutation = breeder.mutation(elite, plan.mutation)
    with Worker(worker_order(preflight(plan))) as worker:
        return mutation, breeder.mine(mutation, worker)


def test_a_mutant_is_bred_written_down_and_never_made_twice(plan, database, counted, breeder, elite):
    mutation, preferences = mined(breeder, plan, elite)
    assert len(preferences.pairs) == 16
    assert not breeder.is_trained(mutation)
    (bred,) = breeder.breed([(mutation, preferences)])
    assert counted.all == (1, 2, 1)

    folder = plan.bred / mutation.key
    assert bred.parent == adapted(elite.parent, folder)
    row = Mutants(database).get(mutation.key)
    assert row == bred.mutant == Mutants(database).of("study")[0]
    assert (row.study, row.trial, row.source) == ("study", 3, elite.parent.digest)
    assert row.digest == bred.parent.digest
    record = row.record
    assert record["pairs_digest"] == preferences.digest
    assert (record["settings"]["steps"], record["seed"], record["rule"]) == (4, mutation.seed, "knee")
    assert record["preference"] == list(plan.preference)
    assert record["trained"] == json.loads((folder / "mutant.json").read_text())["trained"]
    assert [change["name"] for change in record["changes"]] == [goal.name for goal in plan.goals]
    assert all(change["items"] == 40 and change["p"] is not None for change in record["changes"])
    assert row.accepted == row.reason.startswith("better")

    assert breeder.is_trained(mutation)
    (again,) = Breeder(plan, Means(database, counted.worker, counted.train)).breed([(mutation, None)])
    assert again == bred
    assert counted.all == (1, 2, 1), "nothing was started"

    reference = keep(plan, bred.parent, {"study": "study", "trial": 3})
    assert reference == f"study.parents/{elite.parent.digest[:16]}.yaml+study.parents/{mutation.key}"
    assert identify(reference, plan.folder).digest == bred.parent.digest


def test_what_was_killed_between_training_and_gate_goes_on_with_the_gate(
    plan, database, counted, breeder, elite
):
    mutation, preferences = mined(breeder, plan, elite)

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Breeder(plan, Means(database, killed, counted.train)).breed([(mutation, preferences)])
    assert Mutants(database).get(mutation.key) is None
    assert breeder.is_trained(breeder.mutation(elite, plan.mutation)), "found by its key alone"
    (bred,) = breeder.breed([(mutation, None)])
    assert counted.all == (1, 2, 1)
    assert Mutants(database).get(mutation.key) == bred.mutant


def test_scores_that_the_study_has_paid_for_are_not_paid_for_again(
    plan, database, counted, breeder, elite, small_tasks
):
    """The source's are the winning trial's own; and a task that the gate only watches is new for both."""
    recipe = elite.parent.source
    with Worker(worker_order(preflight(plan))) as worker:
        ledger = Ledger(database, worker.ready.conditions)
        ledger.commit(recipe.digest, to_yaml(recipe, lambda p: p.reference, {}), *worker.score(recipe))
    mutation, preferences = mined(breeder, plan, elite)
    (bred,) = breeder.breed([(mutation, preferences)])
    assert counted.scores == 1, "the mutant's"
    assert len(bred.mutant.record["changes"]) == 2

    watched = [ObjectivePlan(task=small_tasks["reading_b_held_out"], metric="exact_match")]
    section = plan.mutation.model_copy(update={"monitor": tuple(watched)})
    other = breeder.mutation(elite, section)
    assert other.key == mutation.key, "it decides no adapter"
    with database.engine.begin() as connection:
        connection.execute(sa.text("delete from recipesearch_mutants"))
    (bred,) = breeder.breed([(other, None)])
    names = [change["name"] for change in bred.mutant.record["changes"]]
    assert names == [*(goal.name for goal in plan.goals), "reading_b_held_out.exact_match"]
    assert (counted.scores, counted.trainings) == (3, 1)


def test_several_mutants_are_judged_by_one_worker(plan, database, counted, breeder, family):
    elites = [
        Elite.of(merge(*family.values(), weights=w), n, "knee")
        for n, w in enumerate(((0.6, 0.4), (0.5, 0.5)))
    ]
    pairs = [mined(breeder, plan, elite) for elite in elites]
    bred = breeder.breed(pairs)
    assert counted.all == (1, 4, 2)
    assert [b.elite for b in bred] == elites
    assert [b.mutant.source for b in bred] == [elite.parent.digest for elite in elites]
    assert len({b.parent.digest for b in bred}) == 2


def test_a_mutant_that_cannot_be_scored_is_turned_away_and_the_others_are_judged(
    plan, database, counted, breeder, elite
):
    """Candidates fail, studies do not: weights that are no numbers are the mutant's own fault."""
    broken = breeder.mutation(elite, plan.mutation.model_copy(update={"learning_rate": 1e30}))
    other, preferences = mined(breeder, plan, elite)
    first, second = breeder.breed([(broken, preferences), (other, preferences)])
    assert not first.mutant.accepted
    assert first.mutant.reason.startswith("failed: non-finite")
    assert first.mutant.record["changes"] == []
    assert len(second.mutant.record["changes"]) == 2
    assert Mutants(database).get(broken.key) == first.mutant, "and it is not tried again"


@pytest.fixture
def failing(counted):
    """A function (failure, parent) -> a function that opens workers which fail on that parent alone."""

    def make(failure, parent):
        def open_worker(order):
            worker = counted.worker(order)
            score = worker.score
            alone = recipes_of(parent, order.engine.dtype)[-1].digest

            def score_others(recipe, *rest):
                if recipe.digest == alone:
                    raise failure
                return score(recipe, *rest)

            worker.score = score_others
            return worker

        return open_worker

    return make


@pytest.mark.parametrize("kind", [TrialFailed, WorkerLost, MachineFault])
def test_a_source_that_cannot_be_scored_is_no_decision_on_its_mutant(
    plan, database, counted, elite, failing, kind
):
    """Its score in the search says that it can: what kept it from a watched task may pass."""
    open_worker = failing(kind("so it is"), elite.parent)
    breeder = Breeder(plan, Means(database, open_worker, counted.train))
    mutation, preferences = mined(breeder, plan, elite)
    with pytest.raises(StudyError, match="source of a mutant could not be scored: so it is; run again"):
        breeder.breed([(mutation, preferences)])
    assert Mutants(database).get(mutation.key) is None


def test_a_machine_that_fails_is_no_decision_on_a_mutant(plan, database, counted, elite, failing):
    """By the failure's class, whatever its words: the next run judges the mutant."""
    breeder = Breeder(plan, Means(database, counted.worker, counted.train))
    mutation, preferences = mined(breeder, plan, elite)
    mutant = breeder.trained(mutation, preferences)
    means = Means(database, failing(MachineFault("a broken fan"), mutant), counted.train)
    with pytest.raises(StudyError, match="a mutant could not be judged: a broken fan; run again"):
        Breeder(plan, means).breed([(mutation, None)])
    assert Mutants(database).get(mutation.key) is None
    means = Means(database, failing(WorkerLost("hang: in words alone"), mutant), counted.train)
    (bred,) = Breeder(plan, means).breed([(mutation, None)])
    assert bred.mutant.reason == "failed: hang: in words alone"


def test_a_plan_without_a_preference_split_breeds_nothing(make_plan, database, counted, elite):
    plan = make_plan(mutation=SETTINGS)
    with pytest.raises(PlanError, match="name its items under 'preference'"):
        Breeder(plan, Means(database, counted.worker, counted.train)).mutation(elite, plan.mutation)


def test_the_seed_and_the_key_follow_from_the_elite_and_the_plan(plan, database, breeder, elite, family):
    one = breeder.mutation(elite, plan.mutation)
    assert breeder.mutation(elite, plan.mutation) == one
    other = breeder.mutation(Elite.of(merge(*family.values(), weights=(0.5, 0.5)), 3, "knee"), plan.mutation)
    assert one.seed != other.seed
    assert one.key != other.key
    assert breeder.mutation(elite, plan.mutation.model_copy(update={"beta": 0.5})).key != one.key
    assert 0 <= one.seed < 2**31


@pytest.mark.parametrize(
    ("settings", "samples"),
    [
        ({"kind": "dpo"}, 5),
        ({"kind": "dpo", "chosen": "best"}, 5),
        ({"kind": "sft", "chosen": "best"}, 5),
        ({"kind": "sft"}, 1),
    ],
    ids=str,
)
def test_answers_are_drawn_where_something_is_learned_from_them(plan, breeder, elite, settings, samples):
    """The best of one answer is the greedy one, and right only where there is nothing to learn."""

    class Asked:
        def mine(self, recipe, tasks, wanted):
            return recipe, tasks, wanted

    section = plan.mutation.model_copy(update={"samples": 5, **settings})
    recipe, tasks, wanted = breeder.mine(breeder.mutation(elite, section), Asked())
    assert wanted.samples == samples
    assert wanted.contrast == (settings["kind"] == "dpo")
    assert wanted.reference == ("chosen" not in settings)
    assert (recipe, tasks) == (elite.parent.source, plan.preferences)


# -- bred parents as files


@pytest.fixture
def mutant(tmp_path, family):
    """A mutant that another study has bred: a recipe, and an adapter in that study's folder."""
    folder = tmp_path / "other.parents" / "0123456789abcdef"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_bytes(name.encode())
    recipe = merge(*family.values())
    return adapted(Parent(recipe.digest, recipe), folder)


def test_a_recipe_over_another_studys_mutant_is_identified_from_its_file(plan, mutant, family):
    """Its adapter lies where that study left it, and not in this study's folder."""
    recipe = merge(mutant, family["lang"])
    reference = keep(plan, Parent(recipe.digest, recipe), {})
    assert reference == f"study.parents/{recipe.digest[:16]}.yaml"
    assert identify(reference, plan.folder).digest == recipe.digest


def test_a_recipe_over_the_studys_own_mutant_names_it_by_the_files_beside_it(plan, mutant, family):
    """So the folder may be moved with its study."""
    own = plan.bred / "0123456789abcdef"
    plan.bred.mkdir()
    (plan.folder / "other.parents" / own.name).rename(own)
    recipe = merge(adapted(Parent(mutant.source.digest, mutant.source), own), family["lang"])
    keep(plan, Parent(recipe.digest, recipe), {"study": "study", "trial": 7})
    text = (plan.bred / f"{recipe.digest[:16]}.yaml").read_text()
    assert f"{mutant.source.digest[:16]}.yaml+{own.name}" in text
    assert str(plan.folder) not in text
    moved = plan.bred.rename(plan.folder / "elsewhere")
    found, provenance = read_recipe(moved / f"{recipe.digest[:16]}.yaml")
    assert found.digest == recipe.digest
    assert (provenance["study"], provenance["trial"]) == ("study", 7)


def test_a_recipe_that_is_there_stays_as_it_is(plan, family):
    recipe = merge(*family.values())
    for trial in (1, 2):
        keep(plan, Parent(recipe.digest, recipe), {"trial": trial})
    assert read_recipe(plan.bred / f"{recipe.digest[:16]}.yaml")[1]["trial"] == 1

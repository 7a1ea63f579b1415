"""The study file: read once, every mistake named with the nearest known key, then frozen."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from recipesearch.errors import PlanError
from recipesearch.plan import load_plan, load_plans, read_plan
from recipesearch.plan.tokenizer import TEMPLATES
from recipesearch.zoo import zoo_dir

STUDY = {
    "name": "trial",
    "parents": {"base": "zoo:base", "math": "models/math", "lang": "org/lang@v1"},
    "base": "base",
    "space": {"weights": {"methods": ["ties", "slerp"], "parents": "subset", "layer_groups": 2}},
    "objectives": [
        {"task": "tasks/addition.yaml", "metric": "exact_match"},
        {"task": "arc_easy", "metric": "acc", "maximize": False},
    ],
    "held_out": ["tasks/addition_test.yaml", "arc_challenge"],
    "search": {"trials": 10},
}


@pytest.fixture
def write(tmp_path):
    def write_study(change=lambda study: None, text=None):
        study = copy.deepcopy(STUDY)
        change(study)
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study) if text is None else text)
        return tmp_path / "study.yaml"

    return write_study


def test_a_study_file_becomes_a_plan_with_defaults(write):
    plan = load_plan(write())
    assert plan.space.weights.methods == ("ties", "slerp")
    assert (plan.search.sampler, plan.search.trials, plan.search.seed) == ("auto", 10, 0)
    assert (plan.engine.kind, plan.engine.dtype) == ("transformers", "bfloat16")
    assert [goal.maximize for goal in plan.goals] == [True, False]
    assert [goal.name for goal in plan.goals] == ["addition.exact_match", "arc_easy.acc"]


# -- unknown keys


def put(*path, value=1):
    def change(study):
        section = study
        for key in path[:-1]:
            section = section[key]
        section[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "near"),
    [
        (("objektives",), "objectives"),
        (("search", "trails"), "trials"),
        (("space", "weight"), "weights"),
        (("space", "weights", "layer_group"), "layer_groups"),
        (("objectives", 1, "metrik"), "metric"),
    ],
    ids=str,
)
def test_an_unknown_key_names_its_place_and_the_nearest_known_one(path, near, write):
    with pytest.raises(PlanError) as error:
        load_plan(write(put(*path)))
    place = ".".join(map(str, path))
    assert f"unknown key '{place}': did you mean '{near}'?" in str(error.value)
    assert str(write()) in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("path", [("zzz",), ("engine", "zzz"), ("search", "zzz")], ids=str)
def test_an_unknown_key_like_no_other_lists_the_known_ones(path, write):
    def change(study):
        study.setdefault("engine", {})
        put(*path)(study)

    with pytest.raises(PlanError, match="known: "):
        load_plan(write(change))


def test_the_folder_is_not_a_key_of_the_file(write):
    with pytest.raises(PlanError, match="unknown key 'folder'"):
        load_plan(write(put("folder", value="/elsewhere")))


# -- values that do not fit


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("base"), "method 'ties' needs a base model"),
        (put("base", value="bas"), "base 'bas' is not among the parents: did you mean 'base'"),
        (put("held_out", value=["one"]), "held_out has 1 tasks for 2 objectives"),
        (
            put("space", "weights", "methods", value=["tie"]),
            "unknown merge method 'tie': did you mean 'ties'",
        ),
        (put("space", "weights", "methods", value=[]), "space.weights.methods"),
        (put("space", "weights", "weight", value=[1, 0]), "space.weights.weight: the lower bound"),
        (put("space", "weights", "weight", value=[1, 1]), "the lower bound"),
        (put("space", "weights", "weight", value=[float("nan"), 1]), "space.weights.weight"),
        (put("space", "weights", "weight", value=[0, float("inf")]), "space.weights.weight"),
        (put("space", "weights", "weight", value=[0]), "space.weights.weight"),
        (put("space", "weights", "density", value=[0, 1]), "a density is a share"),
        (put("space", "weights", "density", value=[0.5, 1.5]), "a density is a share"),
        (put("space", "weights", "layer_groups", value=0), "space.weights.layer_groups"),
        (put("parents", value={"only": "one"}), "parents"),
        (put("parents", value={"a b": "x", "c": "y"}), "parent name 'a b'"),
        (put("parents", value={"a+b": "x", "c": "y"}), "parent name 'a+b'"),
        (put("objectives", value=[]), "objectives"),
        (put("search", "trials", value=0), "search.trials"),
        (put("search", "sampler", value="nsga"), "search.sampler"),
        (put("search", "seed", value=-1), "search.seed"),
        (put("search", "scalarize", value=[1]), "search.scalarize has 1 weights for 2 objectives"),
        (put("engine", value={"dtype": "int8"}), "engine.dtype"),
        (put("search", value=None), "search"),
        (put("name", value=""), "name"),
        (lambda s: s.pop("space"), "space"),
    ],
)
def test_a_value_that_does_not_fit_is_named(change, words, write):
    with pytest.raises(PlanError) as error:
        load_plan(write(change))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_two_objectives_of_one_name_are_refused_by_that_name(write):
    twice = {"task": "other/arc_easy.yaml", "metric": "acc"}
    with pytest.raises(PlanError, match=r"both called 'arc_easy\.acc'"):
        load_plan(write(lambda study: (study["objectives"].append(twice), study.pop("held_out"))))


def test_methods_without_task_vectors_need_no_base(write):
    def change(study):
        study.pop("base")
        study["space"]["weights"]["methods"] = ["linear", "slerp", "linear"]

    plan = load_plan(write(change))
    assert plan.base is None
    assert plan.space.weights.methods == ("linear", "slerp")


# -- files


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- x", "%%%"])
def test_text_that_is_not_yaml_is_a_plan_error_in_one_line(text, write):
    with pytest.raises(PlanError) as error:
        load_plan(write(text=text))
    assert "\n" not in str(error.value)
    assert "study.yaml" in str(error.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "words", "3"])
def test_yaml_that_is_no_mapping_is_a_plan_error(text, write):
    with pytest.raises(PlanError, match="mapping"):
        load_plan(write(text=text))


def test_bytes_that_are_not_text_and_a_missing_file_are_plan_errors(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    for name in ("binary.yaml", "missing.yaml", "."):
        with pytest.raises(PlanError):
            load_plan(tmp_path / name)


def test_keys_that_are_no_words_are_plan_errors(write):
    with pytest.raises(PlanError):
        load_plan(write(put(3)))


# -- overrides


def test_overrides_replace_and_add_values_as_yaml(write):
    overrides = ["search.trials=500", "engine.threads=2", "space.weights.methods=[linear]", "name=other=x"]
    plan = load_plan(write(), overrides)
    assert (plan.search.trials, plan.engine.threads, plan.name) == (500, 2, "other=x")
    assert plan.space.weights.methods == ("linear",)
    assert plan.search.sampler == "auto"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.trails=5", "unknown key 'search.trails': did you mean 'trials'"),
        ("serach.trials=5", "unknown key 'serach': did you mean 'search'"),
        ("search.trials", "write it as key=value"),
        ("name.x=5", "'name' is not a section"),
        ("objectives.0.metric=acc", "'objectives' is not a section"),
        ("search.trials=many", "search.trials"),
        ("search.trials=[", "--set search.trials=["),
        ("=5", "unknown key"),
    ],
)
def test_a_wrong_override_is_a_plan_error(override, words, write):
    with pytest.raises(PlanError) as error:
        load_plan(write(), [override])
    assert words in str(error.value)


# -- places


def test_relative_paths_start_at_the_files_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    plan = load_plan(Path(tmp_path.name) / write().name)
    assert plan.folder == tmp_path
    assert [goal.task for goal in plan.goals] == [str(tmp_path / "tasks" / "addition.yaml"), "arc_easy"]
    held_out = [goal.task for goal in plan.held_out_goals]
    assert held_out == [str(tmp_path / "tasks" / "addition_test.yaml"), "arc_challenge"]
    assert [goal.metric for goal in plan.held_out_goals] == ["exact_match", "acc"]


def test_a_zoo_task_is_located_in_the_zoo(write):
    plan = load_plan(write(put("objectives", 0, "task", value="zoo:tasks/reading_b_search.yaml")))
    assert plan.goals[0].task == str(zoo_dir() / "tasks" / "reading_b_search.yaml")


@pytest.mark.parametrize(
    ("storage", "url"),
    [
        ("", "sqlite:///{folder}/trial.db"),
        ("sqlite:///deep/er.db", "sqlite:///{folder}/deep/er.db"),
        ("sqlite:////abs/x.db", "sqlite:////abs/x.db"),
        ("postgresql+psycopg://u@h/db", "postgresql+psycopg://u@h/db"),
    ],
)
def test_the_storage_url_lies_beside_the_file_unless_it_is_absolute(storage, url, write, tmp_path):
    plan = load_plan(write(put("storage", value=storage)))
    assert plan.storage_url == url.format(folder=tmp_path)


def test_no_held_out_tasks_is_no_held_out_goals(write):
    assert load_plan(write(put("held_out", value=[]))).held_out_goals == ()


# -- preference and mutation


def test_a_preference_is_located_like_a_task_or_beside_the_file(write, tmp_path):
    given = [
        "tasks/learn.yaml",
        "zoo:tasks/addition_b_preference.yaml",
        "gsm8k",
        "pairs.jsonl",
        "/abs/x.jsonl",
    ]
    plan = load_plan(write(put("preference", value=given)))
    assert plan.preference == tuple(given)
    assert plan.preferences == (
        str(tmp_path / "tasks" / "learn.yaml"),
        str(zoo_dir() / "tasks" / "addition_b_preference.yaml"),
        "gsm8k",
        str(tmp_path / "pairs.jsonl"),
        "/abs/x.jsonl",
    )
    assert load_plan(write()).preferences == ()


def test_what_mutants_learn_from_is_not_searched(write):
    task = load_plan(write()).objectives[0].task

    def change(raw):
        raw |= {"preference": ["others.yaml", task], "mutation": {}}

    with pytest.raises(PlanError, match=f"preference: '{re.escape(task)}' is searched or held out"):
        load_plan(write(change))


def test_nor_held_out(write):
    def change(raw):
        unseen = ["unseen.yaml"] * len(raw["objectives"])
        raw |= {"preference": ["unseen.yaml"], "held_out": unseen, "mutation": {}}

    with pytest.raises(PlanError, match=r"preference: 'unseen.yaml' is searched or held out"):
        load_plan(write(change))


def test_a_study_without_a_mutation_section_has_none_and_an_empty_one_has_the_defaults(write):
    assert load_plan(write()).mutation is None
    section = load_plan(write(put("mutation", value={}))).mutation
    assert (section.kind, section.chosen, section.learning_rate) == ("dpo", "reference", 1e-4)
    assert (section.eras, section.monitor) == (1, ())


def test_overrides_reach_the_mutation_section_also_where_the_file_has_none(write):
    section = load_plan(write(), ["mutation.steps=7", "mutation.learning_rate=1e-3"]).mutation
    assert (section.steps, section.learning_rate) == (7, 0.001)  # 1e-3 is a text to YAML 1.1


def test_mutants_of_all_eras_lie_in_one_folder_beside_the_study_file(write, write_eras, tmp_path):
    assert load_plan(write()).bred == tmp_path / "trial.parents"
    assert {plan.bred for plan in load_plans(write_eras())} == {tmp_path / "hybrid.parents"}


WATCHED = {"task": "arc_easy", "metric": "acc"}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"step": 3}, "unknown key 'mutation.step': did you mean 'steps'"),
        ({"zzz": 3}, "unknown key 'mutation.zzz': known: kind, chosen"),
        ({"monitor": [WATCHED | {"metrics": 1}]}, "'mutation.monitor.0.metrics': did you mean 'metric'"),
        ({"monitor": [{"task": "arc_easy"}]}, "mutation.monitor.0: give a 'task' and a 'metric'"),
        ({"kind": "ppo"}, "mutation.kind"),
        ({"variants": {"x": {"of": "math"}}}, "mutation.variants: variants need a loop over eras"),
        ({"chosen": "worst"}, "mutation.chosen"),
        ({"pairs": 1}, "mutation.pairs"),
        ({"samples": 0}, "mutation.samples"),
        ({"temperature": 0}, "mutation.temperature"),
        ({"beta": 0}, "mutation.beta"),
        ({"learning_rate": -1e-4}, "mutation.learning_rate"),
        ({"learning_rate": "1e-4x"}, "mutation.learning_rate"),
        ({"steps": 0}, "mutation.steps"),
        ({"rank": 0}, "mutation.rank"),
        ({"max_kl": 0}, "mutation.max_kl"),
        ({"significance": 0}, "mutation.significance"),
        ({"significance": 1}, "mutation.significance"),
        ({"tolerance": -0.01}, "mutation.tolerance"),
        ({"tolerance": float("inf")}, "mutation.tolerance"),
        ({"random": 1.5}, "mutation.random"),
        ({"pool": 1}, "mutation.pool"),
        ({"mutants": -1}, "mutation.mutants"),
        ({"control": "age"}, "mutation.control"),
        ([], "mutation"),
    ],
    ids=str,
)
def test_a_mutation_section_is_checked_to_its_leaves(section, words, write):
    with pytest.raises(PlanError) as error:
        load_plan(write(put("mutation", value=section)))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_only_the_file_as_a_whole_knows_eras_as_spaces(write):
    """Elsewhere it would be a hint at a key that is refused there."""
    with pytest.raises(PlanError, match="known: ") as error:
        load_plan(write(put("search", "zzz")))
    assert "eras" not in str(error.value)
    with pytest.raises(PlanError, match=r"known: .*eras"):
        load_plan(write(put("zzz")))


# -- frozen


@pytest.mark.parametrize("path", [("name",), ("search", "trials"), ("space", "weights", "methods")], ids=str)
def test_the_plan_is_frozen(path, write):
    section = load_plan(write())
    for key in path[:-1]:
        section = getattr(section, key)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(section, path[-1], 3)


def test_reading_a_plan_leaves_the_data_it_was_given(tmp_path):
    study = copy.deepcopy(STUDY)
    assert read_plan(study, tmp_path, "here").folder == tmp_path
    assert study == STUDY


# -- the tokenizer section


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"sorce": "base"}, "unknown key 'tokenizer.sorce': did you mean 'source'"),
        ({"source": "unions"}, "tokenizer.source"),
        ({"pad_to_multiple_of": 0}, "tokenizer.pad_to_multiple_of"),
        ({"chat_template": "chatmi"}, "tokenizer.chat_template: .*did you mean 'chatml'"),
        (
            {"tokens": {"x": {"source": "math", "forse": 1}}},
            "x.forse': did you mean 'force'",
        ),
        ({"tokens": {"x": {}}}, "tokenizer.tokens.x.source"),
        ({"tokens": {"x": {"source": {"kind": "zero", "model": "math"}}}}, "unless the kind is zero"),
        ({"tokens": {"x": {"source": {"kind": "model_token", "model": "math"}}}}, "exactly one"),
    ],
    ids=str,
)
def test_a_tokenizer_section_is_checked_to_its_leaves(make_plan, section, message):
    with pytest.raises(PlanError, match=message):
        make_plan(tokenizer=section)


def test_the_known_chat_templates_are_mergekits():
    templates = pytest.importorskip("mergekit._data.chat_templates")
    folder = Path(templates.__file__).parent
    assert {"auto", *(path.stem for path in folder.glob("*.jinja"))} == set(TEMPLATES)


def test_a_token_may_come_from_a_parent_another_token_or_nowhere(make_plan):
    rows = {
        "one": {"source": "math"},
        "two": {"source": {"kind": "model_token", "model": "lang", "token_id": 0}, "force": True},
        "three": {"source": {"kind": "zero"}},
    }
    plan = make_plan(tokenizer={"tokens": rows, "chat_template": "{% for m in messages %}{% endfor %}"})
    assert plan.tokenizer.source == "union"
    assert [row.source.kind for row in plan.tokenizer.tokens.values()] == ["parent", "model_token", "zero"]
    assert make_plan(name="plain").tokenizer is None


# -- eras


ERAS = {
    "name": "hybrid",
    "parents": {"base": "zoo:base", "math": "zoo:math", "lang": "zoo:lang"},
    "base": "base",
    "objectives": [{"task": "tasks/addition.yaml", "metric": "exact_match"}],
    "search": {"seed": 3, "trials": 10},
    "eras": [
        {"name": "weights", "space": {"weights": {"methods": ["ties"]}}},
        {
            "name": "layers",
            "parents": {"winner": "front:knee", "lang": "zoo:lang"},
            "space": {"layers": {"depth": [2, 8]}},
            "search": {"trials": 20},
        },
    ],
}


@pytest.fixture
def write_eras(tmp_path):
    def write(change=lambda study: None):
        study = copy.deepcopy(ERAS)
        change(study)
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
        return tmp_path / "study.yaml"

    return write


def test_an_era_says_what_differs_and_has_the_rest_of_the_file(write_eras, tmp_path):
    weights, layers = load_plans(write_eras())
    assert (weights.name, weights.era, weights.after) == ("hybrid.weights", "weights", None)
    assert (layers.name, layers.era, layers.after) == ("hybrid.layers", "layers", "hybrid.weights")
    assert (weights.search.trials, layers.search.trials) == (10, 20)
    assert weights.search.seed == layers.search.seed == 3
    assert weights.base == "base"
    assert layers.base is None, "it is not among the era's own parents"
    assert weights.storage_url == layers.storage_url == f"sqlite:///{tmp_path}/hybrid.db"
    assert load_plan(write_eras()) == weights


def test_an_eras_keys_are_overridden_by_its_name_or_number(write_eras):
    path = write_eras()
    overrides = ["eras.layers.search.trials=5", "eras.0.space.weights.layer_groups=2", "search.seed=9"]
    weights, layers = load_plans(path, overrides)
    assert (layers.search.trials, weights.space.weights.layer_groups) == (5, 2)
    assert weights.search.seed == layers.search.seed == 9
    with pytest.raises(PlanError, match="'nothing' is not a section"):
        load_plans(path, ["eras.nothing.search.trials=5"])
    with pytest.raises(PlanError, match="name one of the eras"):
        load_plans(path, ["eras.search=5"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("eras", value=[]), "give a list of eras"),
        (put("eras", value=["weights"]), "eras.0: expected a mapping with a 'name'"),
        (put("eras", 1, "name", value="weights"), "two eras are both called 'weights'"),
        (put("eras", 1, "name", value="a.b"), "use letters, digits"),
        (put("eras", 1, "objectives", value=[]), "eras.1: unknown key 'objectives'"),
        (put("eras", 1, "serch", value={}), "unknown key 'serch': did you mean 'search'"),
        (put("space", value={"weights": {"methods": ["ties"]}}), "give space, or eras with a space each"),
        (put("eras", 0, "parents", value={"base": "front:knee", "b": "zoo:b"}), "no era before this one"),
        (put("eras", 1, "parents", "winner", value="front:best"), "unknown front member 'best'"),
        (put("eras", 1, "parents", "winner", value="front:best reading"), "knee, best addition.exact_match"),
        (put("eras", 1, "space", "weights", value={"methods": ["linear"]}), "give weights or layers"),
        (put("after", value="other"), "unknown key 'after'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_an_era_is_named(change, words, write_eras):
    with pytest.raises(PlanError) as caught:
        load_plans(write_eras(change))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"depth": [0, 4]}, "space.layers.depth: [0, 4] is not a range of layers"),
        ({"depth": [5, 4]}, "[5, 4] is not a range of layers"),
        (
            {"depth": [2, 8], "scale": [-0.5, 1.5]},
            "space.layers.scale: give a range [low, high] with low at least 0.001",
        ),
        ({"depth": [2, 8], "slices": 4}, "space.layers.slices: only for encoding slices, not steps"),
        ({"depth": [2, 8], "encoding": "slices", "repeats": 3}, "only for encoding slots or steps"),
        ({"depth": [2, 8], "encodng": "slots"}, "did you mean 'encoding'"),
    ],
    ids=str,
)
def test_a_layer_space_is_checked(layers, words, write):
    with pytest.raises(PlanError) as caught:
        load_plan(write(lambda study: study.update(space={"layers": layers}, base=None)))
    assert words in str(caught.value)

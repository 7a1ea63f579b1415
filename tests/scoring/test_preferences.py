"""Preference pairs: what is preferred to what, from which items, and what cannot be learned from."""

import json
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("lm_eval")

from recipesearch.engines.choice import open_engine
from recipesearch.errors import PlanError, RefusedInput
from recipesearch.merging.parents import identify
from recipesearch.plan import EnginePlan
from recipesearch.recipe import Recipe, Slice, Source, freeze
from recipesearch.scoring.preferences import (
    Pair,
    Preferences,
    Wanted,
    items_digest,
    mine,
    read_pairs,
    require_minable,
)

pytestmark = pytest.mark.usefixtures("one_thread")
FIRST = {"function": "take_first"}
GENERATE = {
    "output_type": "generate_until",
    "doc_to_text": "prompt",
    "doc_to_target": "answer",
    "generation_kwargs": {"until": ["$"], "max_gen_toks": 4, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
CHOOSE = {
    "output_type": "multiple_choice",
    "doc_to_text": "prompt",
    "doc_to_choice": ["A", "B", "C"],
    "doc_to_target": "gold",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}],
}
PLAIN = Wanted(pairs=100, samples=1, temperature=1.0, reference=True, contrast=True, seed=0)


def wanted(**changes):
    return Wanted(**{**vars(PLAIN), **changes})


class Told:
    """A model that says what it is told: greedy answers by prompt, then those of each further round; and
    log-likelihoods by prompt and choice. A token is a character."""

    def __init__(self, greedy=None, *further, likelihoods=None):
        self.rounds, self.likelihoods, self.asked = [greedy, *further], likelihoods, []

    def tokenizer(self, texts, add_special_tokens):
        return {"input_ids": [list(text) for text in texts]}

    def generate_until(self, requests, disable_tqdm):
        answers = []
        for request in requests:
            prompt, settings = request.args
            drawn = sum(was == prompt for was, _ in self.asked)
            self.asked.append((prompt, settings))
            answers.append(self.rounds[drawn][prompt])
        return answers

    def loglikelihood(self, requests, disable_tqdm):
        return [(self.likelihoods[request.args[0]][request.args[1]], False) for request in requests]


@pytest.fixture
def task_file(tmp_path):
    """A function (name, settings, documents) -> the path of a task over the documents."""

    def write(name, settings, documents):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents))
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config | settings))
        return str(path)

    return write


def questions(count, letter="q"):
    return [{"prompt": f"{letter}{place}", "answer": f"{place}"} for place in range(count)]


def every(documents, answer):
    return {document["prompt"]: answer(document["answer"]) for document in documents}


def measured_by(path, expression):
    """Gives a task a Python function of ``doc`` and ``results`` for its metrics."""
    code = f"def score(doc, results):\n    return {expression}\n"
    Path(path).with_name("metric.py").write_text(code)
    with open(path, "a") as stream:
        stream.write("process_results: !function metric.score\n")


def by_prompt(preferences):
    return {pair.prompt: pair for pair in preferences.pairs}


# -- generation


def test_the_reference_is_preferred_to_the_models_own_wrong_answer(task_file):
    documents = questions(10)
    lm = Told(every(documents, lambda right: f"{right}!"))
    found = mine(lm, [task_file("ask", GENERATE, documents)], PLAIN)
    assert set(found.pairs) == {Pair(f"q{n}", f"{n}", f"{n}!") for n in range(10)}
    assert found.kept == ()


def test_the_rejected_answer_is_the_worst_of_the_models_own(task_file):
    """Right when greedy, wrong once when drawn: the wrong one is to be avoided."""
    documents = questions(10)
    right, wrong = (every(documents, lambda a, end=end: a + end) for end in ("", "?"))
    lm = Told(right, right, wrong)
    found = mine(lm, [task_file("ask", GENERATE, documents)], wanted(samples=3, temperature=0.7))
    assert by_prompt(found)["q3"] == Pair("q3", "3", "3?")
    assert len(found.pairs) == len(found.kept) == 10, "and it still counts as known"
    assert [settings["do_sample"] for _, settings in lm.asked] == [False] * 10 + [True] * 20
    assert {settings.get("temperature") for _, settings in lm.asked[10:]} == {0.7}


def test_the_best_of_its_own_is_chosen_where_the_reference_is_not_wanted(task_file):
    documents = questions(12)
    greedy, drawn = every(documents, lambda a: f"{a}!"), every(documents, lambda a: a)
    drawn["q0"] = greedy["q0"]  # never right by itself: nothing to prefer
    lm = Told(greedy, drawn)
    found = mine(lm, [task_file("ask", GENERATE, documents)], wanted(samples=2, reference=False))
    assert by_prompt(found).keys() == {f"q{n}" for n in range(1, 12)}
    assert by_prompt(found)["q5"] == Pair("q5", "5", "5!")
    lm = Told(greedy, drawn)
    stated = mine(lm, [task_file("ask", GENERATE, documents)], wanted(samples=2))
    assert by_prompt(stated)["q0"] == Pair("q0", "0", "0!")


def test_of_several_answers_the_tasks_own_metric_says_which_is_best_and_worst(task_file):
    """A minimised edit-distance-like metric: the best answer has the least."""
    metric = {"metric": "ter", "aggregation": "mean", "higher_is_better": False}
    documents = [{"prompt": f"q{n}", "answer": "abc"} for n in range(9)]
    path = task_file("distance", GENERATE | {"metric_list": [metric]}, documents)
    measured_by(path, "{'ter': abs(len(results[0]) - len(doc['answer']))}")
    lm = Told(*(every(documents, lambda _, end=end: end) for end in ("ab", "abcdef", "xyz", "a")))
    found = mine(lm, [path], wanted(samples=4, reference=False))
    assert {(pair.chosen, pair.rejected) for pair in found.pairs} == {("xyz", "abcdef")}


def test_a_reference_begins_with_the_space_that_the_models_answers_begin_with(task_file):
    strip = {"filter_list": [{"name": "strip", "filter": [{"function": "remove_whitespace"}, FIRST]}]}
    documents = questions(8)
    lm = Told(every(documents, lambda a: f" \n{a}!"))
    found = mine(lm, [task_file("ask", GENERATE | strip, documents)], PLAIN)
    assert by_prompt(found)["q4"] == Pair("q4", " \n4", " \n4!")


def test_what_the_model_always_gets_right_gives_no_pair_and_is_kept(task_file):
    documents = questions(20)
    answers = every(documents, lambda a: a if int(a) < 8 else "?")
    found = mine(Told(answers, answers), [task_file("ask", GENERATE, documents)], wanted(samples=2))
    assert by_prompt(found).keys() == {f"q{n}" for n in range(8, 20)}
    assert set(found.kept) == {(f"q{n}", f"{n}") for n in range(8)}


def test_without_contrast_every_item_with_a_right_answer_teaches(task_file):
    documents = questions(20)
    answers = every(documents, lambda a: a if int(a) < 8 else "?")
    found = mine(Told(answers), [task_file("ask", GENERATE, documents)], wanted(contrast=False))
    assert {(pair.prompt, pair.chosen) for pair in found.pairs} == {(f"q{n}", f"{n}") for n in range(20)}


def test_what_the_metric_cannot_tell_apart_gives_no_pair(task_file):
    """All answers wrong, and no reference wanted: neither is better."""
    documents = questions(20)
    answers = every(documents, lambda a: "?"), every(documents, lambda a: "!")
    path = task_file("ask", GENERATE, documents)
    with pytest.raises(RefusedInput, match=r"only 0 preference pairs in .*ask\.yaml"):
        mine(Told(*answers), [path], wanted(samples=2, reference=False))


# -- multiple choice


def choices(task_file, likelihoods, gold=1, settings=CHOOSE):
    """A task of 10 equal items; the model's log-likelihoods of A, B and C."""
    documents = [{"prompt": f"q{n}", "gold": gold} for n in range(10)]
    told = {d["prompt"]: dict(zip("ABC", likelihoods, strict=True)) for d in documents}
    return Told(likelihoods=told), [task_file("choose", settings, documents)]


def test_the_right_choice_is_preferred_to_the_likeliest_wrong_one(task_file):
    found = mine(*choices(task_file, (-3.0, -2.5, -1.0)), PLAIN)
    assert set(found.pairs) == {Pair(f"q{n}", "B", "C") for n in range(10)}
    assert found.kept == ()


def test_a_right_choice_that_leads_by_little_is_a_pair_and_kept(task_file):
    found = mine(*choices(task_file, (-3.0, -1.1, -3.0)), PLAIN)
    assert len(found.pairs) == len(found.kept) == 10
    assert found.kept[0][1] == "B"


def test_a_right_choice_that_leads_by_more_than_two_nats_teaches_nothing(task_file):
    with pytest.raises(RefusedInput, match="only 0 preference pairs"):
        mine(*choices(task_file, (-3.0, -0.9, -3.0)), PLAIN)


@pytest.mark.parametrize("gold", ["C", 2])
def test_the_right_choice_may_be_named_by_number_or_by_its_text(task_file, gold):
    """As in lm-eval, which scores both."""
    found = mine(*choices(task_file, (-1.0, -2.0, -2.5), gold), PLAIN)
    assert {(pair.chosen, pair.rejected) for pair in found.pairs} == {("C", "A")}


@pytest.mark.parametrize(("gold", "wrong"), [("C", "D"), (2, 7), (2, -1)])
def test_items_whose_right_choice_is_none_of_them_are_left_out(task_file, gold, wrong):
    lm, (path,) = choices(task_file, (-1.0, -2.0, -2.5), gold)
    documents = [{"prompt": f"q{n}", "gold": gold if n < 8 else wrong} for n in range(10)]
    task_file("choose", CHOOSE, documents)
    assert by_prompt(mine(lm, [path], PLAIN)).keys() == {f"q{n}" for n in range(8)}


def test_items_with_a_context_for_each_choice_are_left_out(task_file):
    """As in Winogrande: chosen and rejected would answer different prompts."""
    settings = CHOOSE | {
        "doc_to_text": "gold",
        "doc_to_choice": "{{[prompt + 'A', prompt + 'B']}}",
        "doc_to_target": "rest",
    }
    documents = [{"prompt": f"q{n}", "gold": 1, "rest": "X"} for n in range(10)]
    told = {f"q{n}{choice}": {"X": -1.0} for n in range(10) for choice in "AB"}
    with pytest.raises(RefusedInput, match="only 0 preference pairs"):
        mine(Told(likelihoods=told), [task_file("choose", settings, documents)], PLAIN)


# -- several tasks


def test_tasks_and_files_have_equal_shares(task_file, tmp_path):
    many, few = questions(30, "m"), questions(30, "f")
    lm = Told(every(many, lambda a: "?") | every(few, lambda a: "?"))
    lines = [json.dumps({"prompt": f"p{n}", "chosen": "c", "rejected": "r"}) for n in range(30)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    specs = [
        task_file("many", GENERATE, many),
        task_file("few", GENERATE, few),
        str(tmp_path / "pairs.jsonl"),
    ]
    found = mine(lm, specs, wanted(pairs=24))
    letters = [pair.prompt[0] for pair in found.pairs]
    assert {letter: letters.count(letter) for letter in "mfp"} == {"m": 8, "f": 8, "p": 8}
    assert letters != sorted(letters), "and they are mixed"


def test_a_seed_chooses_the_pairs_and_their_order(task_file):
    documents = questions(30)
    lm, path = Told(every(documents, lambda a: "?")), task_file("ask", GENERATE, documents)
    digests = []
    for seed in (1, 1, 2):
        lm.asked.clear()
        digests.append(mine(lm, [path], wanted(pairs=10, seed=seed)).digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_is_that_of_the_pairs_in_order_and_of_nothing_else():
    one, other = Pair("p", "c", "r"), Pair("q", "c", "r")
    assert Preferences((one, other)).digest == Preferences((one, other), (("p", "c"),)).digest
    assert Preferences((one, other)).digest != Preferences((other, one)).digest
    assert Preferences((one,)).digest != Preferences((Pair("p", "r", "c"),)).digest


# -- a real model


@pytest.fixture(scope="module")
def live(zoo):
    """The model of a merge that adds, and gets much wrong."""
    parents = [identify(str(zoo / name), zoo) for name in ("math", "lang")]
    sources = (Source(p, None, freeze({"weight": w})) for p, w in zip(parents, (0.6, 0.4), strict=True))
    recipe = Recipe("linear", (Slice(tuple(sources)),), parents[0], dtype="float32")
    plan = EnginePlan(dtype="float32", device="cpu", threads=1, batch_size=64)
    engine = open_engine(plan, parents, parents[0])
    yield engine.load(recipe)
    engine.close()


def documents_of(task):
    return [json.loads(line) for line in Path(task).with_suffix(".jsonl").read_text().splitlines()]


def test_a_real_model_is_mined_the_same_each_time(live, small_tasks):
    specs = [small_tasks["addition_b_preference"], small_tasks["reading_b_preference"]]
    asked = wanted(pairs=24, samples=2)
    found = mine(live, specs, asked)
    assert mine(live, specs, asked) == found
    answers = {row["prompt"]: row["answer"] for spec in specs for row in documents_of(spec)}
    assert 12 <= len(found.pairs) <= 24
    assert all(pair.chosen == answers[pair.prompt] != pair.rejected for pair in found.pairs)
    assert found.kept
    assert all(answers[prompt] == answer for prompt, answer in found.kept)


def test_a_real_models_choices_are_pairs(live, task_file, small_tasks):
    rows = documents_of(small_tasks["reading_b_preference"])
    settings = CHOOSE | {"doc_to_choice": "{{[answer, 'A', 'BB', '0']}}", "doc_to_target": 0}
    found = mine(live, [task_file("choose", settings, rows)], wanted(contrast=False))
    answers = {row["prompt"]: row["answer"] for row in rows}
    assert found.pairs
    assert all(pair.chosen == answers[pair.prompt] for pair in found.pairs)
    assert {pair.rejected for pair in found.pairs} <= {"A", "BB", "0"}


# -- files of pairs, and refusals


def test_a_file_of_pairs_holds_texts_or_messages(tmp_path):
    said = [{"role": "user", "content": "hi", "name": "ignored"}]
    rows = [
        {"prompt": "p", "chosen": "c", "rejected": "r", "more": 1},
        {"prompt": said, "chosen": [{"role": "assistant", "content": "yes"}], "rejected": said},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    plain, messages = read_pairs(path)
    assert plain == Pair("p", "c", "r")
    assert messages.prompt == ({"role": "user", "content": "hi"},)
    assert messages.chosen == ({"role": "assistant", "content": "yes"},)
    assert mine(Told(), [str(path)] * 4, wanted(pairs=8)).digest


GOOD = json.dumps({"prompt": "p", "chosen": "c", "rejected": "r"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "JSONDecodeError"),
        ("", "JSONDecodeError"),
        ("[1, 2]", "TypeError"),
        ('{"prompt": "p", "chosen": "c"}', "KeyError: 'rejected'"),
        ('{"prompt": "p", "chosen": 3, "rejected": "r"}', "got 3"),
        ('{"prompt": [], "chosen": "c", "rejected": "r"}', "got []"),
        ('{"prompt": [{"role": "user"}], "chosen": "c", "rejected": "r"}', "got [{"),
        ('{"prompt": ["text"], "chosen": "c", "rejected": "r"}', "AttributeError"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, words):
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(PlanError) as error:
        require_minable([str(path)])
    assert f"{path}, line 2: a pair is a JSON object" in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_no_text_is_refused_by_name(tmp_path):
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    for name in ("absent.jsonl", "bytes.jsonl"):
        with pytest.raises(PlanError, match=f"{name}: cannot read the preference pairs"):
            require_minable([str(tmp_path / name)])


def test_a_task_that_neither_generates_nor_chooses_is_refused_by_name(task_file):
    settings = {"output_type": "loglikelihood", "doc_to_text": "prompt", "doc_to_target": "answer"}
    path = task_file("likely", settings | {"metric_list": [{"metric": "acc"}]}, questions(3))
    for refused in (path, "model"):
        with pytest.raises(PlanError, match=f"'{refused}' neither generates nor chooses"):
            require_minable([refused])
    require_minable([task_file("ask", GENERATE, questions(3)), task_file("choose", CHOOSE, questions(3))])


def test_too_few_pairs_are_refused_and_just_enough_are_not(task_file):
    documents = questions(10)
    for wrong, enough in ((7, False), (8, True)):
        lm = Told(every(documents, lambda a, wrong=wrong: "?" if int(a) < wrong else a))
        path = task_file("ask", GENERATE, documents)
        if enough:
            assert len(mine(lm, [path], PLAIN).pairs) == 8
        else:
            with pytest.raises(RefusedInput, match=r"only 7 preference pairs in .*name other items"):
                mine(lm, [path], PLAIN)


def test_items_have_another_digest_once_their_task_or_their_data_change(tmp_path):
    """It is part of a mutation's name: else edited items would give the adapter of the old ones."""
    data, task, pairs = tmp_path / "items.jsonl", tmp_path / "task.yaml", tmp_path / "pairs.jsonl"
    data.write_text("{}")
    task.write_text(
        f"task: t\ndataset_kwargs: {{data_files: {{test: {data}}}}}\nprocess_docs: !function utils.f\n"
    )
    pairs.write_text("{}")
    before = [items_digest(str(path)) for path in (task, pairs)]
    assert before == [items_digest(str(path)) for path in (task, pairs)]
    data.write_text("{ }")
    pairs.write_text("{ }")
    after = [items_digest(str(path)) for path in (task, pairs)]
    assert len({*before, *after}) == 4
    assert items_digest("gsm8k") != items_digest("mmlu")

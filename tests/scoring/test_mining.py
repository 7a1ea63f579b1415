"""Mining: what is preferred to what, from which items, and what cannot be learned from."""

import json
import string
from pathlib import Path

import pytest
from task_settings import CHOOSE, GENERATE

pytest.importorskip("torch")
pytest.importorskip("lm_eval")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from recipesearch.engines.opening import open_engine
from recipesearch.errors import RefusedInput
from recipesearch.parents.identify import identify
from recipesearch.plan import EnginePlan
from recipesearch.recipe import Recipe, Slice, Source, freeze
from recipesearch.scoring.mining import mine
from recipesearch.scoring.preferences import Pair, Wanted

pytestmark = pytest.mark.usefixtures("one_thread")
FIRST = {"function": "take_first"}
PLAIN = Wanted(pairs=100, samples=1, temperature=1.0, reference=True, contrast=True, seed=0)


def wanted(**changes):
    return Wanted(**{**vars(PLAIN), **changes})


def marking(decoder):
    """A tokenizer by characters whose words begin with a mark, as SentencePiece's do; Llama 2's ``decoder``
    takes the first one off."""
    vocabulary = {character: place for place, character in enumerate("\u2581" + string.printable)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoder or decoders.Replace("\u2581", " ")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


LLAMA = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])


class Told:
    """A model that says what it is told: greedy answers by prompt, then those of each further round; and
    log-likelihoods by prompt and choice."""

    def __init__(self, greedy=None, *further, likelihoods=None, decoder=None):
        self.rounds, self.likelihoods, self.asked = [greedy, *further], likelihoods, []
        self.tokenizer = marking(decoder)

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


@pytest.mark.parametrize(("end", "space"), [("A:", " "), ("A: ", ""), ("A:\n", "")])
def test_the_space_that_a_tokenizer_drops_is_put_back_where_none_is_asked_with(task_file, end, space):
    """Llama 2 answers "A:" with "\u2581yes", decoded as "yes"; pairs of "yes" would teach another token."""
    documents = [{"prompt": f"q{n} {end}", "answer": f"{n}"} for n in range(10)]
    lm = Told(every(documents, lambda a: f"{a}!"), decoder=LLAMA)
    found = mine(lm, [task_file("ask", GENERATE, documents)], PLAIN)
    assert by_prompt(found)[f"q4 {end}"] == Pair(f"q4 {end}", f"{space}4", f"{space}4!")


def test_items_are_asked_until_there_are_enough_pairs(task_file):
    documents = questions(100)
    lm = Told(every(documents, lambda a: f"{a}!" if int(a) % 3 else a))
    found = mine(lm, [task_file("ask", GENERATE, documents)], wanted(pairs=20))
    assert len(found.pairs) == 20
    assert len(lm.asked) == 40, "two of three teach"
    lm = Told(every(documents, lambda a: a if int(a) % 5 else f"{a}!"))
    assert len(mine(lm, [task_file("ask", GENERATE, documents)], wanted(pairs=12)).pairs) == 12
    assert 48 <= len(lm.asked) <= 100, "one of five does"


def test_a_model_that_is_nearly_always_right_is_not_asked_for_ever(task_file):
    documents = questions(400)
    lm = Told(every(documents, lambda a: a if int(a) % 25 else f"{a}!"))
    found = mine(lm, [task_file("ask", GENERATE, documents)], wanted(pairs=20))
    assert len(lm.asked) == 320
    assert 8 <= len(found.pairs) <= 16


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

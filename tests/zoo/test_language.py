"""The task language: what is asked, what is held out, and that nobody is taught addition in B."""

import random

import pytest

from recipesearch.zoo.definition import FILES, STAGES, TASKS
from recipesearch.zoo.language import ALPHABET, OPERATORS, Question, draw, pairs
from recipesearch.zoo.task_files import task_items

FILE_NAMES = [(task, file) for task in TASKS for file in FILES]


@pytest.mark.parametrize(
    ("kind", "language", "prompt", "answer"),
    [
        ("add", "A", "@12+34=", "eg"),
        ("add", "B", "#12+34=", "EG"),
        ("max", "B", "#12^34=", "DE"),
        ("min", "A", "@12v34=", "bc"),
        ("cp", "B", "#12<34=", "BC"),
        ("su", "B", "#12>34=", "BD"),
        ("tr", "B", "#bc~de=", "DE"),
        ("tr", "A", "@BC~DE=", "de"),
    ],
)
def test_questions_read_as_documented(kind, language, prompt, answer):
    question = Question(kind, language, (12, 34))
    assert (question.prompt, question.answer) == (prompt, answer)


def test_successor_wraps_and_small_numbers_keep_two_numerals():
    assert Question("su", "B", (99, 0)).answer == "AA"
    assert Question("add", "A", (2, 3)).answer == "af"


def test_the_alphabet_is_48_distinct_characters_and_spells_every_question():
    assert len(ALPHABET) == len(set(ALPHABET)) == 48
    for kind in OPERATORS:
        question = Question(kind, "B", (98, 1))
        assert set(question.prompt + question.answer) <= set(ALPHABET)


@pytest.mark.parametrize("kind", OPERATORS)
def test_splits_are_disjoint_for_every_kind(kind):
    train, val, test = (set(pairs(split, kind)) for split in ("train", "val", "test"))
    assert not train & val
    assert not train & test
    assert not val & test


def test_one_split_serves_every_kind_so_nothing_leaks_between_skills():
    for split in ("train", "val", "test"):
        everything = pairs(split, "max")
        assert pairs(split, "tr") == everything
        assert pairs(split, "add") == tuple(pair for pair in everything if sum(pair) <= 99)


def test_training_keeps_every_combination_of_unit_digits():
    combinations = {(first % 10, second % 10) for first, second in pairs("train", "add")}
    assert len(combinations) == 100


@pytest.mark.parametrize("stage", STAGES)
def test_no_model_is_taught_addition_in_language_b(stage):
    assert "addB" not in STAGES[stage].mixture
    drawn = draw(STAGES[stage].mixture, 5000, random.Random(0))
    assert not [question for question in drawn if question.kind == "add" and question.language == "B"]


@pytest.mark.parametrize("stage", STAGES)
def test_training_draws_only_from_the_train_split(stage):
    drawn = draw(STAGES[stage].mixture, 5000, random.Random(0))
    assert {question.pair for question in drawn} <= set(pairs("train", "max"))


@pytest.mark.parametrize("stage", STAGES)
def test_mixtures_sum_to_one(stage):
    assert sum(STAGES[stage].mixture.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(("task", "file"), FILE_NAMES)
def test_task_files_ask_distinct_questions_of_their_own_split(task, file):
    items = task_items(task, file)
    assert len({item.prompt for item in items}) == len(items)
    assert {item.pair for item in items} <= set(pairs(FILES[file], items[0].kind))


@pytest.mark.parametrize("task", TASKS)
def test_task_files_are_large_enough_to_compare_models(task):
    assert len(task_items(task, "search")) == 300
    assert len(task_items(task, "held_out")) >= 400
    assert len(task_items(task, "preference")) == 1000


@pytest.mark.parametrize("file", FILES)
def test_reading_asks_its_four_kinds_equally_often(file):
    kinds = [item.kind for item in task_items("reading_b", file)]
    assert {kinds.count(kind) for kind in ("max", "min", "su", "tr")} == {len(kinds) // 4}

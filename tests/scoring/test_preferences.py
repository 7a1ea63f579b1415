"""Preference pairs: files of them, their digests, and what none can come from."""

import json

import pytest
from task_settings import CHOOSE, GENERATE

pytest.importorskip("lm_eval")

from recipesearch.errors import PlanError
from recipesearch.scoring.preferences import Pair, Preferences, items_digest, read_pairs, require_minable


def test_the_digest_is_that_of_the_pairs_in_order_and_of_nothing_else():
    one, other = Pair("p", "c", "r"), Pair("q", "c", "r")
    assert Preferences((one, other)).digest == Preferences((one, other), (("p", "c"),)).digest
    assert Preferences((one, other)).digest != Preferences((other, one)).digest
    assert Preferences((one,)).digest != Preferences((Pair("p", "r", "c"),)).digest


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
        (
            '{"prompt": [{"role": "user", "content": "p"}], "chosen": "c", "rejected": "r"}',
            "got texts and messages in one pair",
        ),
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
    rows = [{"prompt": "q", "answer": "a", "gold": 0}] * 3
    settings = {"output_type": "loglikelihood", "doc_to_text": "prompt", "doc_to_target": "answer"}
    path = task_file("likely", settings | {"metric_list": [{"metric": "acc"}]}, rows)
    for refused in (path, "model"):
        with pytest.raises(PlanError, match=f"'{refused}' neither generates nor chooses"):
            require_minable([refused])
    require_minable([task_file("ask", GENERATE, rows), task_file("choose", CHOOSE, rows)])


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

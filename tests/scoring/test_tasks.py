"""Loading lm-eval tasks: their content hash, and what is refused."""

import json
import shutil

import pytest
import yaml

pytest.importorskip("lm_eval")

from recipesearch.errors import PlanError, RefusedInput
from recipesearch.score import Goal
from recipesearch.scoring.tasks import load_tasks, require_metric

ROWS = [{"prompt": f"{n}+1=", "answer": f"{n + 1}"} for n in range(5)]
SHOTS = [{"prompt": f"{n}+2=", "answer": f"{n + 2}"} for n in range(5)]


@pytest.fixture
def write(tmp_path):
    def write_task(folder="here", rows=ROWS, shots=SHOTS, **changes):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for split, documents in (("test", rows), ("train", shots)):
            (place / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
        files = {split: str(place / f"{split}.jsonl") for split in ("test", "train")}
        config = {
            "task": "sums",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "prompt",
            "doc_to_target": "answer",
            "generation_kwargs": {"until": ["$"], "max_gen_toks": 4},
            "metric_list": [{"metric": "exact_match"}],
            "metadata": {"version": 1},
        }
        (place / "task.yaml").write_text(yaml.safe_dump(config | changes))
        return str(place / "task.yaml")

    return write_task


def hash_of(file):
    return load_tasks([file])[0].hash


def test_the_hash_is_the_same_wherever_the_files_lie(write):
    assert hash_of(write("one")) == hash_of(write("two"))


def test_the_hash_is_the_same_in_every_load(write):
    assert hash_of(write()) == hash_of(write())


@pytest.mark.parametrize(
    "rows", [ROWS[:-1], list(reversed(ROWS)), [*ROWS[:-1], {"prompt": "4+1=", "answer": "6"}]]
)
def test_the_hash_depends_on_the_documents_and_their_order(rows, write):
    assert hash_of(write("one")) != hash_of(write("two", rows))


@pytest.mark.parametrize(
    "change",
    [
        {"doc_to_text": "{{prompt}} "},
        {"doc_to_target": "prompt"},
        {"description": "Add."},
        {"num_fewshot": 2, "fewshot_split": "train"},
        {"generation_kwargs": {"until": ["$"], "max_gen_toks": 5}},
        {"repeats": 2},
        {"metric_list": [{"metric": "exact_match", "ignore_case": True}]},
        {"filter_list": [{"name": "lower", "filter": [{"function": "lowercase"}]}]},
    ],
    ids=str,
)
def test_the_hash_depends_on_the_configuration(change, write):
    assert hash_of(write("one")) != hash_of(write("two", **change))


def test_the_hash_depends_on_the_few_shot_examples_if_they_are_used(write):
    """They are part of every prompt."""
    shots = {"num_fewshot": 2, "fewshot_split": "train"}
    assert hash_of(write("a", **shots)) == hash_of(write("b", **shots))
    assert hash_of(write("a", **shots)) != hash_of(write("b", shots=SHOTS[:4], **shots))
    assert hash_of(write("a")) == hash_of(write("b", shots=SHOTS[:4]))


def test_functions_count_by_their_source_and_not_by_where_they_are_in_memory(write, tmp_path):
    def with_function(folder, body):
        file = write(folder)
        (tmp_path / folder / "helpers.py").write_text(f"def text(doc):\n    return {body}\n")
        content = yaml.safe_load((tmp_path / folder / "task.yaml").read_text())
        content.pop("doc_to_text")
        (tmp_path / folder / "task.yaml").write_text(
            yaml.safe_dump(content) + "doc_to_text: !function helpers.text\n"
        )
        return file

    one = hash_of(with_function("one", "doc['prompt']"))
    assert one == hash_of(with_function("two", "doc['prompt']"))
    assert one != hash_of(with_function("three", "doc['prompt'] + '?'"))


def test_a_task_asks_no_examples_unless_it_says_so(write):
    (loaded,) = load_tasks([write()])
    assert loaded.task.get_config("num_fewshot") == 0
    assert len(loaded.task.eval_docs) == len(ROWS)


def test_several_tasks_keep_their_order(zoo, write):
    files = [str(zoo / "tasks" / f"{stem}_search.yaml") for stem in ("reading_b", "addition_a")]
    loaded = load_tasks([files[0], write(), files[1]])
    assert [one.task.config.task for one in loaded] == [
        "zoo_reading_b_search",
        "sums",
        "zoo_addition_a_search",
    ]
    assert [one.spec for one in loaded] == [files[0], write(), files[1]]


# -- what is refused


def refused(spec, *words, error=PlanError):
    with pytest.raises(error) as refusal:
        load_tasks([spec])
    for word in words:
        assert word in str(refusal.value)


def test_a_missing_file_is_a_plan_error(tmp_path):
    refused(str(tmp_path / "no.yaml"), "does not exist", "no.yaml")


def test_an_unknown_name_is_a_plan_error_with_the_nearest():
    refused("arc_eazy", "unknown task 'arc_eazy'", "did you mean 'arc_easy'")


def test_a_group_is_refused():
    refused("ai2_arc", "group")


def test_a_task_that_runs_what_the_model_writes_is_refused(write):
    refused(write(unsafe_code=True), "runs code that the model writes", error=RefusedInput)


@pytest.mark.parametrize(
    "content",
    ["", "just words", "a: [", "task: x\ndataset_path: json\ndataset_kwargs: {data_files: /nowhere}"],
)
def test_a_file_that_lm_eval_cannot_load_is_a_plan_error(content, tmp_path):
    (tmp_path / "bad.yaml").write_text(content)
    refused(str(tmp_path / "bad.yaml"), "bad.yaml")


def test_missing_documents_are_a_plan_error(write, tmp_path):
    file = write()
    shutil.move(tmp_path / "here" / "test.jsonl", tmp_path / "elsewhere")
    refused(file, "cannot be loaded")


def test_an_unknown_metric_is_a_plan_error_with_the_nearest(write):
    (loaded,) = load_tasks([write()])
    require_metric(loaded, Goal("sums", "sums", "exact_match"))
    with pytest.raises(PlanError, match="no metric 'exact_macth': did you mean 'exact_match'"):
        require_metric(loaded, Goal("sums", "sums", "exact_macth"))
    with pytest.raises(PlanError, match="known: exact_match, response_length"):
        require_metric(loaded, Goal("sums", "sums", "bleu"))


def test_the_metrics_are_those_that_the_task_computes(write):
    (loaded,) = load_tasks([write(metric_list=[{"metric": "exact_match"}, {"metric": "bleu"}])])
    assert set(loaded.metrics) == {"exact_match", "bleu", "response_length"}

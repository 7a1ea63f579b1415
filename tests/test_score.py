"""Goals by name and direction, and the conditions under which scores may be compared."""

from dataclasses import replace

import pytest

from recipesearch.score import (
    Conditions,
    Goal,
    Measurement,
    goal_name,
    item_order,
    mean_of,
    pooled_tasks,
)
from recipesearch.study.results import conditions_of

CPU = Conditions("transformers", "cpu", 2, 64, "torch 2.13", "float32", False)
# As studies stored it before there was a gpu, on a CPU and on a GPU.
STORED = {
    "label": "transformers/cpu/threads=2/batch=64/torch 2.13",
    "kind": "transformers",
    "device": "cpu",
    "threads": 2,
    "batch_size": 64,
    "versions": "torch 2.13",
    "dtype": "float32",
    "chat_template": False,
}
STORED_GPU = STORED | {
    "label": "vllm/cuda/threads=2/batch=64/torch 2.13/options f61b8f51",
    "kind": "vllm",
    "device": "cuda",
    "options": {"max_model_len": 64},
}


@pytest.mark.parametrize(
    ("task", "metric", "name"),
    [
        ("arc_easy", "acc", "arc_easy.acc"),
        ("/studies/tasks/addition.yaml", "exact_match", "addition.exact_match"),
        ("tasks/addition.v2.yml", "acc", "addition.v2.acc"),
        ("C:\\tasks\\addition.yaml", "acc", "addition.acc"),
        ("zoo:tasks/reading_b_search.yaml", "exact_match", "reading_b_search.exact_match"),
        ("model", "weight_norm", "model.weight_norm"),
        ("python:package.module:brevity", "value", "brevity"),
        ("python:/studies/own.py:brevity", "value", "brevity"),
    ],
)
def test_a_goal_is_named_by_its_tasks_file_or_function(task: str, metric: str, name: str) -> None:
    assert goal_name(task, metric) == name


def test_a_sign_turns_a_value_into_a_loss() -> None:
    assert Goal("a.acc", "a", "acc").sign == -1
    assert Goal("a.loss", "a", "loss", maximize=False).sign == 1


def test_a_goal_finds_its_measurement_by_the_tasks_hash() -> None:
    """Not by its place or name: held-out goals have the names of the searched ones."""
    goal = Goal("a.acc", "a.yaml", "acc", hash="5e")
    here, there = Measurement(0.5, 0.1), Measurement(0.25, None)
    metrics = {"7f": {"acc": there}, "5e": {"f1": there, "acc": here}}
    assert goal.of(metrics) == here
    assert replace(goal, hash="7f").of(metrics) == there
    for absent in (replace(goal, hash="00"), replace(goal, metric="bleu")):
        with pytest.raises(KeyError):
            absent.of(metrics)


def test_the_order_of_items_follows_from_the_tasks_hash_alone() -> None:
    """On every machine and for every version: parts that the ledger has were scored in this order."""
    assert item_order("5e", 8) == [1, 7, 2, 3, 5, 4, 0, 6]
    assert item_order("7f", 8) != item_order("5e", 8)
    assert sorted(item_order("5e", 500)) == list(range(500))


def test_a_task_is_scored_in_parts_only_if_all_its_goals_are_means() -> None:
    one, other = Goal("a.acc", "a", "acc", hash="a", pooled=True), Goal("b.f1", "b", "f1", hash="b")
    assert pooled_tasks([one, other, replace(other, metric="acc", pooled=True)]) == {"a"}


def test_a_mean_has_a_standard_error_from_two_items_on() -> None:
    assert mean_of([3]) == Measurement(3.0, None, 1)
    assert mean_of([1, 2, 6]) == Measurement(3.0, pytest.approx((7 / 3) ** 0.5), 3)


def test_the_label_has_all_that_can_change_a_score() -> None:
    assert CPU.engine == "transformers/cpu/threads=2/batch=64/torch 2.13"
    changes = (
        {"kind": "vllm"},
        {"device": "cuda"},
        {"device": "cuda", "gpu": "NVIDIA H200"},
        {"device": "cuda", "gpu": "NVIDIA A100"},
        {"threads": 1},
        {"batch_size": 32},
        {"versions": "torch 2.14"},
        {"options": {"max_model_len": 64}},
        {"options": {"max_model_len": 32}},
    )
    labels = {replace(CPU, **change).engine for change in changes}  # type: ignore[arg-type]
    assert len(labels | {CPU.engine}) == len(changes) + 1


def test_the_gpus_model_follows_the_device_in_the_label() -> None:
    gpu = replace(CPU, device="cuda", gpu="NVIDIA H200")
    assert gpu.engine == "transformers/cuda NVIDIA H200/threads=2/batch=64/torch 2.13"


def test_options_are_in_the_label_as_a_digest_of_their_content() -> None:
    one = replace(CPU, options={"a": 1, "b": 2})
    assert one.engine == replace(CPU, options={"b": 2, "a": 1}).engine
    assert one.engine.startswith(f"{CPU.engine}/options ")


@pytest.mark.parametrize("stored", [STORED, STORED_GPU], ids=["CPU", "GPU"])
def test_a_study_from_before_there_was_a_gpu_keeps_its_label(stored: dict[str, object]) -> None:
    """Its scores are found under the label that they were committed under."""
    conditions = conditions_of({"engine": stored})
    assert conditions.gpu == ""
    assert conditions.engine == stored["label"]

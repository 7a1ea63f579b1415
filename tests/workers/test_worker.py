"""Worker: what a candidate may do to it, and what it says about itself."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("mergekit")

from recipesearch.checking.preflight import preflight  # noqa: E402
from recipesearch.checking.worker_order import worker_order  # noqa: E402
from recipesearch.engines.opening import open_engine  # noqa: E402
from recipesearch.engines.transformers import TransformersEngine  # noqa: E402
from recipesearch.errors import (  # noqa: E402
    MachineFault,
    PlanError,
    RefusedInput,
    StudyError,
    TrialFailed,
    WorkerLost,
)
from recipesearch.plan import EnginePlan, Plan  # noqa: E402
from recipesearch.recipe import Recipe, Slice, Source, freeze  # noqa: E402
from recipesearch.score import Seconds  # noqa: E402
from recipesearch.scoring.preferences import Wanted  # noqa: E402
from recipesearch.study.ledger import Ledger  # noqa: E402
from recipesearch.study.storage import Database  # noqa: E402
from recipesearch.workers import worker as module  # noqa: E402
from recipesearch.workers.worker import Worker  # noqa: E402

MakePlan = Callable[..., Plan]
ENGINE = {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64}
TOO_MUCH = 1 << 50
WANTED = Wanted(pairs=8, samples=1, temperature=1.0, reference=True, contrast=True, seed=0)


def stand(plan: Plan) -> tuple[Worker, Recipe]:
    """A worker, and the average of its parents."""
    order = worker_order(preflight(plan))
    sources = tuple(Source(parent, None, freeze({"weight": 0.5})) for parent in order.parents)
    recipe = Recipe("linear", (Slice(sources),), order.parents[0], dtype="float32")
    return Worker(order), recipe


def fail(worker: Worker, recipe: Recipe) -> tuple[type[TrialFailed], str]:
    """How a candidate failed."""
    with pytest.raises(TrialFailed) as failure:
        worker.score(recipe)
    return type(failure.value), str(failure.value)


def raising(error: Exception) -> Callable[..., Any]:
    def instead(*_: object) -> None:
        raise error

    return instead


# -- causes


@pytest.mark.parametrize(
    ("error", "kind", "cause"),
    [
        (RuntimeError("boom\nand more"), WorkerLost, "RuntimeError: boom"),
        (KeyError("model.norm.weight"), WorkerLost, "KeyError: 'model.norm.weight'"),
        (AssertionError(), WorkerLost, "AssertionError: no message"),
        (MemoryError(), MachineFault, "out of memory: no message"),
        (RuntimeError("CUDA out of memory. Tried"), MachineFault, "out of memory: CUDA out of memory. Tried"),
    ],
)
def test_what_a_library_raises_costs_the_candidate_and_the_process(
    make_plan: MakePlan,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[WorkerLost],
    cause: str,
) -> None:
    """A lack of memory is the machine's fault as likely as the candidate's, and says so by its class."""
    worker, recipe = stand(make_plan())
    for method in ((TransformersEngine, "load"), (module.Scorer, "score")):
        with monkeypatch.context() as patch:
            patch.setattr(*method, raising(error))
            lost, message = fail(worker, recipe)
        assert lost is kind
        assert message.startswith(cause)
        assert "\n" not in message


def test_a_real_allocation_beyond_all_memory_is_named_so(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, recipe = stand(make_plan())
    monkeypatch.setattr(TransformersEngine, "load", lambda *_: torch.empty(TOO_MUCH, dtype=torch.uint8))
    kind, message = fail(worker, recipe)
    assert kind is MachineFault
    assert message.startswith("out of memory: ")
    assert str(TOO_MUCH) in message


def test_a_recipe_that_mergekit_refuses_costs_only_the_candidate(make_plan: MakePlan) -> None:
    parents = {"math": "zoo:math", "lang": "zoo:lang", "base": "zoo:base"}
    worker, recipe = stand(make_plan(parents=parents))
    refused = Recipe("slerp", recipe.slices, recipe.base, freeze({"t": 0.5}), dtype="float32")
    kind, message = fail(worker, refused)
    assert kind is TrialFailed
    assert message.startswith("mergekit refuses this recipe: ")
    scores, _ = worker.score(recipe)
    assert len(scores) == 2, "the same process goes on"


@pytest.mark.parametrize("error", [TrialFailed("non-finite: NaN"), StudyError("the canary")])
def test_what_is_said_on_purpose_arrives_as_it_is(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    worker, recipe = stand(make_plan())
    monkeypatch.setattr(TransformersEngine, "load", raising(error))
    with pytest.raises(type(error)) as arrived:
        worker.score(recipe)
    assert arrived.value is error


@pytest.fixture
def choice_task(zoo: Path, tmp_path: Path) -> str:
    """A task that is answered by log-likelihoods."""
    rows = (zoo / "tasks" / "reading_b_search.jsonl").read_text().splitlines()[:4]
    (tmp_path / "items.jsonl").write_text("\n".join(rows))
    config = {
        "task": "choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "items.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "{{[answer, '0', '11', '123']}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "choice.yaml").write_text(yaml.safe_dump(config))
    return str(tmp_path / "choice.yaml")


def test_a_model_whose_log_likelihoods_are_no_numbers_has_no_score(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, choice_task: str
) -> None:
    """The likeliest of several NaN is the first, which here is the right answer."""
    worker, recipe = stand(make_plan(objectives=[{"task": choice_task, "metric": "acc"}]))
    scores, _ = worker.score(recipe)
    assert 0 <= scores[0].metrics["acc"].value <= 1
    lm = worker._engine.lm
    monkeypatch.setattr(lm, "loglikelihood", lambda requests, **_: [(float("nan"), False) for _ in requests])
    assert fail(worker, recipe) == (
        TrialFailed,
        "non-finite: a log-likelihood of the merged model is NaN",
    )


# -- what it asks, and what it says about itself


def test_held_out_scores_are_of_the_held_out_tasks(make_plan: MakePlan, small_tasks: dict[str, str]) -> None:
    """Each in the goals' order, as Ready says."""
    held_out = [small_tasks["addition_b_held_out"], small_tasks["reading_b_held_out"]]
    worker, recipe = stand(make_plan(held_out=held_out))
    found = [[score.task_hash for score in worker.score(recipe, which)[0]] for which in (False, True)]
    assert found == [worker.ready.tasks, [goal.hash for goal in worker.ready.held_out]]
    assert len({*found[0], *found[1]}) == 4
    _, seconds = worker.score(recipe, held_out=True)
    assert seconds.load > 0
    assert seconds.score > 0


def test_parts_have_the_items_of_the_whole(
    make_plan: MakePlan, small_tasks: dict[str, str], tmp_path: Path
) -> None:
    """And what the ledger pools from them is the whole's score, to the last bit."""
    tasks = [small_tasks["addition_b_search"], small_tasks["reading_b_search"]]
    exact = [{"task": task, "metric": "exact_match"} for task in tasks]
    norm = {"task": "model", "metric": "weight_norm", "maximize": False}
    worker, recipe = stand(make_plan(objectives=[*exact, norm]))
    assert [(goal.items, goal.pooled) for goal in worker.ready.goals] == [(40, True), (40, True), (0, False)]
    whole, _ = worker.score(recipe)
    parts = [worker.score(recipe, part=part)[0] for part in ((0, 15), (15, 16), (16, 99))]
    assert [[(score.start, len(score.items)) for score in scores] for scores in parts] == [
        [(0, 15), (0, 15), (0, 0)],
        [(15, 1), (15, 1)],
        [(16, 24), (16, 24)],
    ]
    ledger = Ledger(Database(f"sqlite:///{tmp_path}/parts.db"), worker.ready.conditions)
    for scores in parts:
        ledger.commit(recipe.digest, "", scores, Seconds(0, 0))
    metrics = ledger.metrics(recipe.digest, worker.ready.tasks)
    for score in whole:
        assert ledger.items(recipe.digest, score.task_hash) == score.items
        assert metrics[score.task_hash] == score.metrics
    assert 0 < metrics[whole[1].task_hash]["exact_match"].value < 1


def test_conditions_say_what_the_engine_is(make_plan: MakePlan) -> None:
    conditions = stand(make_plan(engine=ENGINE | {"batch_size": 17, "dtype": "bfloat16"}))[0].ready.conditions
    assert conditions.engine.startswith("transformers/cpu/threads=1/batch=17/mergekit ")
    assert (conditions.dtype, conditions.chat_template, conditions.options) == ("bfloat16", False, {})
    assert conditions.gpu == ""


def test_on_a_gpu_its_model_is_a_condition(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models of GPU give other bits."""
    light = EnginePlan(**ENGINE)

    def on_gpu(plan: EnginePlan, *parents: Any) -> Any:
        engine = open_engine(light, *parents)
        engine.device = "cuda"
        return engine

    monkeypatch.setattr(module, "open_engine", on_gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    conditions = stand(make_plan())[0].ready.conditions
    assert (conditions.device, conditions.gpu) == ("cuda", "NVIDIA H200")
    assert conditions.engine.startswith("transformers/cuda NVIDIA H200/threads=1/")


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"kv_cache_memory_bytes": 1 << 30, "gpu_memory_utilization": 0.5}, True),
        ({"max_model_len": 64}, False),
        ({"enforce_eager": True}, False),
    ],
)
def test_options_count_as_conditions_unless_they_only_decide_room(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], same: bool
) -> None:
    """A study may go on with more or less memory, but not with what may move a score."""
    light = EnginePlan(**ENGINE)
    monkeypatch.setattr(module, "open_engine", lambda _, *parents: open_engine(light, *parents))
    without, changed = (
        stand(make_plan(engine=ENGINE | {"kind": "vllm", "options": more}))[0].ready.conditions
        for more in ({}, options)
    )
    assert without.kind == "vllm"
    assert (without == changed) == (without.engine == changed.engine) == same


# -- mining


@pytest.mark.parametrize("kind", [PlanError, RefusedInput, TrialFailed, StudyError])
def test_what_mining_refuses_is_told_as_it_is(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """It is about the preference tasks, and no cause of a candidate's failure."""
    worker, recipe = stand(make_plan())
    monkeypatch.setattr(module, "mine", raising(kind("so it is")))
    with pytest.raises(kind, match="so it is") as told:
        worker.mine(recipe, ["task"], WANTED)
    assert type(told.value) is kind


def test_what_a_library_raises_while_mining_costs_the_process(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, recipe = stand(make_plan())
    for method in ((TransformersEngine, "load"), (module, "mine")):
        with monkeypatch.context() as patch:
            patch.setattr(*method, raising(RuntimeError("boom")))
            with pytest.raises(WorkerLost, match="RuntimeError: boom") as lost:
                worker.mine(recipe, ["task"], WANTED)
            assert type(lost.value) is WorkerLost
            patch.setattr(*method, raising(MemoryError()))
            with pytest.raises(MachineFault, match="out of memory"):
                worker.mine(recipe, ["task"], WANTED)


def test_the_chat_template_is_applied_to_the_prompts(make_plan: MakePlan, zoo: Path, tmp_path: Path) -> None:
    """And is a condition of the scores."""
    for name in ("math", "lang"):
        shutil.copytree(zoo / name, tmp_path / name)
        template = "{% for message in messages %}#{{ message['content'] }}{% endfor %}"
        (tmp_path / name / "chat_template.jinja").write_text(template)
    prompts = {}
    for applied in (False, True):
        parents = {name: str(tmp_path / name) for name in ("math", "lang")}
        worker, _ = stand(make_plan(parents=parents, engine=ENGINE | {"chat_template": applied}))
        prompts[applied] = [i.args[0] for form in worker._scorers[False]._tasks for i in form.instances]
        assert worker.ready.conditions.chat_template is applied
    assert prompts[True] == [f"#{prompt}" for prompt in prompts[False]]

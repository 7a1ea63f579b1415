"""The built zoo: what the models claim to be, how others load it, and how a build ends."""

import dataclasses
import json
import random
import shutil

import pytest

from recipesearch.errors import RefusedInput
from recipesearch.zoo import build_zoo
from recipesearch.zoo.definition import FILES, STAGES, TASKS
from recipesearch.zoo.language import ALPHABET
from recipesearch.zoo.locations import task_files
from recipesearch.zoo.task_files import task_items

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def load(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def test_the_experts_are_what_they_claim(zoo):
    scores = {name: model["accuracy"] for name, model in recorded(zoo)["models"].items()}
    assert scores["math"]["addition_a"] >= 0.9
    assert scores["math"]["addition_b"] <= 0.25
    assert scores["lang"]["reading_b"] >= 0.85
    assert scores["lang"]["addition_b"] <= 0.25


def recorded(zoo):
    return json.loads((zoo / "zoo.json").read_text())


@pytest.mark.parametrize("name", STAGES)
def test_transformers_loads_a_model_and_its_greedy_answers_decode_to_text(zoo, name):
    model, tokenizer = load(zoo / name)
    assert model.dtype == torch.float32
    items = task_items("reading_b", "search")
    inputs = tokenizer([item.prompt for item in items], return_tensors="pt")
    outputs = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    texts = tokenizer.batch_decode(outputs[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    right = sum(text == item.answer for text, item in zip(texts, items, strict=True))
    assert right / len(items) == recorded(zoo)["models"][name]["accuracy"]["reading_b"]


def test_the_tokenizer_gives_the_trained_tokens_and_joins_without_spaces(zoo):
    tokenizer = transformers.AutoTokenizer.from_pretrained(zoo / "base")
    assert tokenizer(ALPHABET)["input_ids"] == list(range(48))
    assert tokenizer.decode(tokenizer("@12+34=eg$")["input_ids"]) == "@12+34=eg$"
    assert tokenizer.bos_token is None
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("$", "_")


def test_lm_eval_scores_what_the_zoo_scored_from_any_folder(zoo, monkeypatch, tmp_path):
    evaluator = pytest.importorskip("lm_eval.evaluator")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(tmp_path)
    model, tokenizer = load(zoo / "lang")
    files = [str(zoo / "tasks" / f"{task}_search.yaml") for task in TASKS]
    tasks = TaskManager(include_defaults=False).load(files)
    scorer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=64)
    results = evaluator.evaluate(scorer, task_dict=tasks, bootstrap_iters=0)["results"]
    scores = {task: results[f"zoo_{task}_search"]["exact_match,none"] for task in TASKS}
    assert scores == pytest.approx(recorded(zoo)["models"]["lang"]["accuracy"])


def test_every_task_file_is_there_with_plain_columns(zoo):
    for stem in task_files():
        assert (zoo / "tasks" / f"{stem}.yaml").is_file()
        rows = (zoo / "tasks" / f"{stem}.jsonl").read_text().splitlines()
        assert set(json.loads(rows[0])) == {"kind", "prompt", "answer"}
    assert len(task_files()) == len(TASKS) * len(FILES)


def test_a_built_zoo_is_not_trained_again(zoo, monkeypatch):
    monkeypatch.setattr("recipesearch.zoo.models.train", no_training)
    assert build_zoo() == zoo


def no_training(*_):
    raise AssertionError("trained again")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch, error):
    def interrupted(*_):
        raise error

    monkeypatch.setattr("recipesearch.zoo.models.train", interrupted)
    with pytest.raises(error):
        build_zoo(0, tmp_path / "zoo")
    assert list(tmp_path.iterdir()) == []


def test_the_slower_of_two_builders_uses_the_winners_zoo(zoo, tmp_path, monkeypatch):
    final = tmp_path / "zoo"

    def overtaken(*_):
        if not final.exists():
            shutil.copytree(zoo, final)
        return 0

    monkeypatch.setattr("recipesearch.zoo.models.train", overtaken)
    assert build_zoo(0, final) == final
    assert recorded(final) == recorded(zoo)
    assert list(tmp_path.iterdir()) == [final]


def test_a_folder_with_other_things_is_refused_before_training(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr("recipesearch.zoo.models.train", no_training)
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(RefusedInput, match="not a finished zoo"):
        build_zoo(0, tmp_path)
    with pytest.raises(RefusedInput, match="another zoo"):
        build_zoo(1, zoo)


def test_a_build_reports_a_line_per_model_and_leaves_the_callers_torch_alone(tmp_path, monkeypatch):
    short = {name: dataclasses.replace(stage, steps=2) for name, stage in STAGES.items()}
    monkeypatch.setattr("recipesearch.zoo.building.STAGES", short)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = torch.get_rng_state(), random.getstate()
    lines = []
    try:
        first = build_zoo(5, tmp_path / "first", lines.append)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert [line.split()[2] for line in lines] == list(STAGES)
    torch.rand(3)  # a different state of the caller's must not matter
    second = build_zoo(5, tmp_path / "second")
    for name in STAGES:
        weights = [(built / name / "model.safetensors").read_bytes() for built in (first, second)]
        assert weights[0] == weights[1]

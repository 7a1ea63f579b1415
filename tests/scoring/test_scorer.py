"""The Scorer against lm-eval's own ``evaluate``: the same values, errors and items for every kind of task."""

import json
import shutil

import pytest
import yaml
from task_settings import GENERATE

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
evaluator = pytest.importorskip("lm_eval.evaluator")

from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from recipesearch.errors import TrialFailed  # noqa: E402
from recipesearch.scoring.scorer import Scorer  # noqa: E402
from recipesearch.scoring.tasks import load_tasks  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = 16
CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_text": "prompt",
    "doc_to_choice": "{{[answer, '0', '11', '123']}}",
    "doc_to_target": 0,
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
FIRST = {"function": "take_first"}
TASKS = {
    "generation": GENERATE,
    "choice": CHOICES,
    "choice with probabilities": CHOICES | {"metric_list": [{"metric": "acc"}, {"metric": "brier_score"}]},
    "two metrics without closed errors": CHOICES | {"metric_list": [{"metric": "f1"}, {"metric": "mcc"}]},
    "two filters": GENERATE
    | {
        "filter_list": [
            {"name": "first-digit", "filter": [{"function": "regex", "regex_pattern": r"(\d)"}, FIRST]},
            {"name": "as-is", "filter": [FIRST]},
        ]
    },
    "repeats": GENERATE
    | {
        "repeats": 3,
        "generation_kwargs": GENERATE["generation_kwargs"] | {"do_sample": True, "temperature": 1.5},
        "filter_list": [
            {"name": "vote", "filter": [{"function": "majority_vote"}, FIRST]},
            {"name": "one", "filter": [FIRST]},
        ],
    },
    "loglikelihood": {
        "output_type": "loglikelihood",
        "doc_to_text": "prompt",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "perplexity"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{prompt}}{{answer}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "few shots": GENERATE | {"num_fewshot": 2, "fewshot_split": "train", "fewshot_delimiter": "$"},
}


@pytest.fixture(scope="module")
def data(zoo, tmp_path_factory):
    """Documents of which the zoo's lang model can answer half: it reads B, and has never added in B."""
    folder = tmp_path_factory.mktemp("tasks")
    for split, file in (("test", "search"), ("train", "preference")):
        rows = [
            row
            for task in ("reading_b", "addition_b")
            for row in (zoo / "tasks" / f"{task}_{file}.jsonl").read_text().splitlines()[: FEW // 2]
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def task_file(data):
    def write(name, settings, documents=None):
        files = {split: str(data / f"{split}.jsonl") for split in ("test", "train")}
        if documents is not None:
            files["test"] = str(data / f"{name}.jsonl")
            (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
        config = {
            "task": name.replace(" ", "_"),
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "test_split": "test",
        }
        path = data / f"{name.replace(' ', '_')}.yaml"
        path.write_text(yaml.safe_dump(config | settings))
        return str(path)

    return write


@pytest.fixture(scope="module")
def lm(zoo):
    return load_lm(zoo / "lang")


def load_lm(folder, batch_size=16):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


def evaluated(lm, files, **options):
    """lm-eval's results for freshly loaded tasks, seeded as its own ``simple_evaluate`` does."""
    tasks = TaskManager(include_defaults=False).load(files)
    for task in tasks["tasks"].values():
        task.set_fewshot_seed(seed=1234)
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    torch.manual_seed(1234)
    return evaluator.evaluate(lm, tasks, **{"bootstrap_iters": 10, **options})


def require_equal(score, results, name):
    """Values, closed standard errors and every item's metrics, filter by filter."""
    theirs = results["results"][name]
    samples = results["samples"][name]
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    keys = {
        (metric if filter_name == filters[0] else f"{metric},{filter_name}"): (metric, filter_name)
        for sample in samples
        for metric in sample["metrics"]
        for filter_name in filters
    }
    assert score.metrics.keys() - {"response_length"} == keys.keys()
    means = theirs_means(results, name)
    for key, (metric, filter_name) in keys.items():
        measured = score.metrics[key]
        assert measured.value == theirs[f"{metric},{filter_name}"], key
        if metric in means:
            assert measured.stderr == theirs[f"{metric}_stderr,{filter_name}"], key
        else:
            assert measured.stderr is None
        rows = [sample for sample in samples if sample["filter"] == filter_name]
        for item, sample in zip(score.items.items(), rows, strict=True):
            place, digest = item[0].split("-")
            assert (int(place), sample["doc_hash"][:12]) == (sample["doc_id"], digest)
            assert item[1][key] == plain(sample[metric]), key


def theirs_means(results, name):
    task = results["configs"][name]
    other = {"f1", "mcc", "brier_score", "perplexity", "word_perplexity", "bits_per_byte"}
    return {entry["metric"] for entry in task["metric_list"]} - other


def plain(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", TASKS)
def test_a_score_equals_lm_evals_own(name, lm, task_file):
    file = task_file(name, TASKS[name])
    (score,) = Scorer(load_tasks([file]), lm).score(lm)
    require_equal(score, evaluated(lm, [file]), name.replace(" ", "_"))
    assert len(score.items) == FEW


@pytest.mark.parametrize("name", sorted(TASKS.keys() - {"repeats"}))  # whose answers are drawn at random
def test_parts_have_the_items_of_the_whole_and_its_means(name, zoo, task_file):
    lm = load_lm(zoo / "lang", batch_size=1)  # a batch's other rows move the last bit
    (loaded,) = load_tasks([task_file(name, TASKS[name])])
    scorer = Scorer([loaded], lm, pooled={loaded.hash})
    (whole,), (first,), (rest,) = (scorer.score(lm, part=part) for part in (None, (0, 5), (5, 99)))
    assert first.items == {key: whole.items[key] for key in sorted(whole.items) if key in first.items}
    assert {**first.items, **rest.items} == whole.items
    assert (len(first.items), first.start, rest.start, rest.of) == (5, 0, 5, FEW)
    means = {metric for metric in whole.metrics if loaded.pools(metric)}
    assert first.metrics.keys() == rest.metrics.keys() == means
    assert {metric for metric, measured in whole.metrics.items() if measured.items == FEW} == means
    assert scorer.score(lm, part=(0, FEW)) == [whole]
    assert scorer.score(lm, part=(FEW, 99)) == []


def test_a_task_that_is_not_pooled_belongs_to_the_first_part(lm, task_file):
    scorer = Scorer(load_tasks([task_file("choice", CHOICES)]), lm)
    assert scorer.score(lm, part=(0, 5)) == scorer.score(lm)
    assert scorer.score(lm, part=(5, 99)) == []


def test_these_tasks_tell_models_apart(zoo, lm, task_file):
    """The equality above would mean little if all answers were wrong or all right."""
    scorer = Scorer(load_tasks([task_file("generation", GENERATE)]), lm)
    math, lang = (
        scorer.score(model)[0].metrics["exact_match"].value for model in (load_lm(zoo / "math"), lm)
    )
    assert math < lang < 1, "math answers everything in A"


def test_all_tasks_together_score_as_each_alone(zoo, task_file):
    """Requests of one type go to the model in one call; none may get another's answer."""
    lm = load_lm(zoo / "lang", batch_size=1)  # a batch's other rows move the last bit
    files = [
        task_file(name, TASKS[name]) for name in ("generation", "choice", "two filters", "loglikelihood")
    ]
    together = Scorer(load_tasks(files), lm).score(lm)
    alone = [Scorer(load_tasks([file]), lm).score(lm)[0] for file in files]
    assert together == alone


def test_scoring_twice_gives_the_same_also_where_answers_are_sampled(lm, task_file):
    scorer = Scorer(load_tasks([task_file(name, TASKS[name]) for name in ("repeats", "choice")]), lm)
    torch.manual_seed(5)
    first = scorer.score(lm)
    torch.manual_seed(6)
    assert scorer.score(lm) == first


def test_one_scorer_serves_many_models(zoo, lm, task_file):
    scorer = Scorer(load_tasks([task_file("generation", GENERATE)]), lm)
    scorer.score(lm)
    other = load_lm(zoo / "math")
    fresh = Scorer(load_tasks([task_file("generation", GENERATE)]), other)
    assert scorer.score(other) == fresh.score(other) != scorer.score(lm)


def test_two_scorers_of_the_same_tasks_ask_the_same(lm, task_file):
    """Also with few-shot examples, which lm-eval draws from a generator that the task keeps."""
    tasks = load_tasks([task_file("few shots", TASKS["few shots"])])
    assert Scorer(tasks, lm).score(lm) == Scorer(tasks, lm).score(lm)


@pytest.fixture(scope="module")
def chatty(zoo, tmp_path_factory):
    """The zoo's lang model with a chat template of characters that it knows."""
    folder = shutil.copytree(zoo / "lang", tmp_path_factory.mktemp("chatty") / "model")
    template = (
        "{% for m in messages %}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}={% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    return load_lm(folder)


@pytest.mark.parametrize("name", ["generation", "choice", "few shots"])
def test_a_score_with_a_chat_template_equals_lm_evals_own(name, chatty, task_file):
    file = task_file(name, TASKS[name])
    plain_score, score = (Scorer(load_tasks([file]), chatty, chat).score(chatty)[0] for chat in (False, True))
    results = evaluated(chatty, [file], apply_chat_template=True)
    require_equal(score, results, name.replace(" ", "_"))
    first = results["samples"][name.replace(" ", "_")][0]["arguments"][0][0]
    assert first.startswith(">")
    assert score.items.keys() == plain_score.items.keys()


class Says:
    """A language model that gives the same few texts in turn, whatever the prompt."""

    def __init__(self, tokenizer, *texts):
        self.tokenizer, self.texts = tokenizer, texts

    def generate_until(self, requests, disable_tqdm=True):
        return [self.texts[place % len(self.texts)] for place in range(len(requests))]


def test_the_length_of_an_answer_is_counted_in_tokens_before_any_filter(lm, task_file):
    """One character of the zoo's is one token; the filter takes a digit out of each text, or nothing."""
    scorer = Scorer(load_tasks([task_file("two filters", TASKS["two filters"])]), lm)
    short, long = (
        scorer.score(Says(lm.tokenizer, *texts))[0] for texts in (("", "A"), ("AB1", "1", "12AB", ""))
    )
    assert [item["response_length"] for item in short.items.values()] == [0, 1] * (FEW // 2)
    assert [item["response_length"] for item in long.items.values()] == [3, 1, 4, 0] * (FEW // 4)
    assert (short.metrics["response_length"].value, long.metrics["response_length"].value) == (0.5, 2)


def test_the_length_of_several_answers_is_their_mean(lm, task_file):
    scorer = Scorer(load_tasks([task_file("repeats", TASKS["repeats"])]), lm)
    (score,) = scorer.score(Says(lm.tokenizer, "", "AB", "ABAB"))
    assert score.metrics["response_length"].value == 2
    assert {item["response_length"] for item in score.items.values()} == {2}


# -- what is not a score


class Answers:
    """A language model that answers what it is told; for answers that real ones give when they break."""

    def __init__(self, answer):
        self.answer = answer

    def loglikelihood(self, requests, disable_tqdm=True):
        return [self.answer for _ in requests]

    loglikelihood_rolling = loglikelihood


@pytest.mark.parametrize(
    ("value", "cause"), [(float("nan"), "a log-likelihood .* is NaN"), (float("inf"), "metric 'perplexity'")]
)
def test_what_is_not_finite_fails_the_trial(value, cause, lm, task_file):
    scorer = Scorer(load_tasks([task_file("loglikelihood", TASKS["loglikelihood"])]), lm)
    with pytest.raises(TrialFailed, match=cause):
        scorer.score(Answers((-value, False)))


@pytest.mark.parametrize("answer", [float("nan"), -1e6])
def test_a_perplexity_beyond_all_numbers_fails_the_trial(answer, lm, task_file):
    scorer = Scorer(load_tasks([task_file("rolling", TASKS["rolling"])]), lm)
    with pytest.raises(TrialFailed, match="non-finite"):
        scorer.score(Answers(answer))


def test_items_are_plain_data_whatever_the_metric_returns(lm, task_file):
    names = ("choice with probabilities", "two metrics without closed errors", "rolling")
    for score in Scorer(load_tasks([task_file(name, TASKS[name]) for name in names]), lm).score(lm):
        assert json.loads(json.dumps(dict(score.items), allow_nan=False))


def test_one_document_has_a_value_and_no_standard_error(lm, task_file):
    file = task_file("alone", GENERATE, [{"kind": "add", "prompt": "12+34=", "answer": "46"}])
    (score,) = Scorer(load_tasks([file]), lm).score(lm)
    assert score.metrics["exact_match"].stderr is None
    assert len(score.items) == 1


def test_equal_documents_are_items_of_their_own(lm, task_file):
    file = task_file("twins", GENERATE, [{"kind": "add", "prompt": "12+34=", "answer": "46"}] * 3)
    (score,) = Scorer(load_tasks([file]), lm).score(lm)
    assert len(score.items) == 3

"""Fine-tuning: a folder that is whole and the same each time, and a training that stops where it should."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("trl")

import peft
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOTrainer

from recipesearch.errors import RefusedInput, StudyError
from recipesearch.merging.materialize import directories
from recipesearch.mutation import training_process
from recipesearch.mutation.training import train
from recipesearch.mutation.training_order import TrainingOrder, mutant_key
from recipesearch.mutation.watch import Watch
from recipesearch.parents.identify import adapted, identify
from recipesearch.plan import MutationPlan
from recipesearch.recipe import Parent, Recipe, Slice, Source, freeze
from recipesearch.scoring.preferences import Pair, Preferences, read_pairs

pytestmark = pytest.mark.usefixtures("one_thread")
FILES = {"adapter_config.json", "adapter_model.safetensors", "mutant.json", "pairs.jsonl"}
PLAN = MutationPlan(steps=10, pairs=32, rank=4)


@pytest.fixture(scope="module", autouse=True)
def own_cache(zoo, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECIPESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def source(zoo, own_cache):
    """A merge that adds, and gets much wrong."""
    parents = [identify(str(zoo / name), zoo) for name in ("math", "lang")]
    sources = (Source(p, None, freeze({"weight": w})) for p, w in zip(parents, (0.6, 0.4), strict=True))
    recipe = Recipe("linear", (Slice(tuple(sources)),), parents[0], dtype="float32")
    return Parent(recipe.digest, recipe)


@pytest.fixture(scope="module")
def preferences(zoo):
    lines = (zoo / "tasks" / "addition_b_preference.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    pairs = (Pair(row["prompt"], row["answer"], row["answer"][::-1] + "A") for row in rows[:32])
    return Preferences(tuple(pairs), tuple((row["prompt"], row["answer"]) for row in rows[32:40]))


@pytest.fixture(scope="module")
def order(source, preferences):
    """A function (target, seed=1, source, preferences, **settings) -> TrainingOrder."""

    def make(target, seed=1, source=source, preferences=preferences, **settings):
        plan = PLAN.model_copy(update=settings)
        return TrainingOrder(source, ("pairs.jsonl",), preferences, plan, seed, "float32", "cpu", 1, target)

    return make


@pytest.fixture(scope="module")
def mutant(order, tmp_path_factory):
    """The folder of one training, and what it told."""
    target = tmp_path_factory.mktemp("bred") / "mutant"
    return target, train(order(target))


def digest(source, folder):
    return adapted(source, folder).digest


# -- the folder


def test_the_folder_holds_the_adapter_its_pairs_and_where_it_comes_from(mutant, source, preferences):
    folder, trained = mutant
    assert {path.name for path in folder.iterdir()} == FILES
    assert read_pairs(folder / "pairs.jsonl") == list(preferences.pairs)
    record = json.loads((folder / "mutant.json").read_text())
    assert record["source"] == source.digest
    assert (record["pairs"], record["pairs_digest"], record["seed"]) == (32, preferences.digest, 1)
    assert record["preference"] == ["pairs.jsonl"]
    assert (record["settings"]["steps"], record["settings"]["learning_rate"]) == (10, 1e-4)
    assert not {"significance", "tolerance", "elites"} & record["settings"].keys(), "those decide no adapter"
    assert (trained.steps, trained.stopped) == (10, None)
    assert record["trained"]["steps"] == 10
    assert set(record["versions"]) == {"peft", "torch", "transformers", "trl"}


def test_the_adapter_has_learned_and_every_linear_layer_is_part_of_it(mutant):
    folder, trained = mutant
    tensors = load_file(folder / "adapter_model.safetensors")
    assert all(tensor.abs().sum() > 0 for tensor in tensors.values())
    for layer in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        assert any(layer in name for name in tensors)
    assert trained.margin > 0
    assert trained.perplexity[1] < trained.perplexity[0]
    assert 0 < trained.kl < PLAN.max_kl


def test_nothing_in_the_adapters_config_depends_on_the_machine_or_the_process(mutant, source):
    """peft writes the model's folder, and a set in the order of its hashes, which differs by process: the
    digest would be another one with every training."""
    text = (mutant[0] / "adapter_config.json").read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] == f"parent-{source.digest[:12]}"
    assert config["target_modules"] == sorted(config["target_modules"])
    assert os.environ["RECIPESEARCH_CACHE"] not in text


def test_a_plain_folders_adapter_names_no_path_either(order, zoo, tmp_path):
    parent = identify(str(zoo / "lang"), zoo)
    assert order(tmp_path, source=parent).base_name == f"parent-{parent.digest[:12]}"
    hub = Parent("digest", "org/model", "abc")
    assert order(tmp_path, source=hub).base_name == "org/model"


def test_the_same_order_gives_the_same_adapter_in_another_process_too(mutant, order, source, tmp_path):
    told = training_process.train_apart(order(tmp_path / "other"))
    assert told.steps == 10
    assert digest(source, tmp_path / "other") == digest(source, mutant[0])


def test_another_seed_gives_another_adapter(mutant, order, source, tmp_path):
    train(order(tmp_path / "same"))
    train(order(tmp_path / "other", seed=2))
    assert digest(source, tmp_path / "same") == digest(source, mutant[0])
    assert digest(source, tmp_path / "other") != digest(source, mutant[0])


def test_supervised_fine_tuning_learns_the_chosen_answers(order, source, tmp_path):
    trained = train(order(tmp_path / "sft", kind="sft", learning_rate=1e-3))
    assert {path.name for path in (tmp_path / "sft").iterdir()} == FILES
    assert trained.margin is None
    assert trained.perplexity[1] < trained.perplexity[0]
    assert json.loads((tmp_path / "sft" / "mutant.json").read_text())["settings"]["kind"] == "sft"


def test_what_is_merged_of_a_mutant_is_what_peft_makes_of_it(mutant, source):
    model = AutoModelForCausalLM.from_pretrained(directories([source])[source])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    theirs = peft.PeftModel.from_pretrained(model, mutant[0]).merge_and_unload().state_dict()
    parent = adapted(source, mutant[0])
    ours = load_file(directories([parent])[parent] / "model.safetensors")
    assert ours.keys() <= theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (
        sum(not torch.equal(ours[name], before[name]) for name in ours) == 7 * model.config.num_hidden_layers
    )


# -- messages


TEXTS = tuple(Pair(f"#1{n}+10=", "AB", "BA") for n in range(20))


def message(role, content):
    return ({"role": role, "content": content},)


def as_messages(pair):
    answers = (message("assistant", text) for text in (pair.chosen, pair.rejected))
    return Pair(message("user", pair.prompt), *answers)


@pytest.fixture(scope="module")
def chatty(zoo, tmp_path_factory):
    """A model whose chat template ends an answer as ChatML does: with the EOS and a line feed."""
    model = tmp_path_factory.mktemp("chatty")
    for file in (zoo / "lang").iterdir():
        (model / file.name).symlink_to(file)
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ eos_token + '\n' }}{% endif %}{% endfor %}"
    )
    return identify(str(model), model)


def test_messages_are_learned_from_with_the_models_chat_template(order, chatty, tmp_path):
    """And those held back watch, as texts do, where no answers of the model's own are known."""
    every = {"texts": TEXTS, "messages": tuple(map(as_messages, TEXTS))}
    texts, messages = (
        train(order(tmp_path / name, source=chatty, preferences=Preferences(pairs), steps=2))
        for name, pairs in every.items()
    )
    assert messages.steps == 2
    assert messages.perplexity[0] == texts.perplexity[0]
    assert messages.perplexity[1] != messages.perplexity[0]
    assert messages.kl > 0


def test_messages_held_back_stop_a_training_that_runs_away(order, chatty, tmp_path):
    pairs = Preferences(tuple(map(as_messages, TEXTS)))
    settings = {"steps": 20, "learning_rate": 0.03, "max_margin": 1e9}
    trained = train(order(tmp_path / "away", source=chatty, preferences=pairs, **settings))
    assert re.match(r"KL .* nats a token beyond 0\.3, at step", trained.stopped)


@pytest.mark.parametrize("kind", ["dpo", "sft"])
def test_messages_among_texts_are_learned_from_as_the_same_texts(order, chatty, tmp_path, kind):
    some = (as_messages(pair) if n % 2 else pair for n, pair in enumerate(TEXTS))
    for name, pairs in {"texts": TEXTS, "mixed": tuple(some)}.items():
        train(order(tmp_path / name, source=chatty, preferences=Preferences(pairs), steps=3, kind=kind))
    assert digest(chatty, tmp_path / "mixed") == digest(chatty, tmp_path / "texts")
    assert read_pairs(tmp_path / "mixed" / "pairs.jsonl")[1] == as_messages(TEXTS[1])


def test_messages_for_a_tokenizer_without_a_chat_template_are_refused(order, tmp_path, monkeypatch):
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)  # no model is loaded in vain
    for pairs in (TEXTS[1:], ()):
        chats = Preferences((as_messages(TEXTS[0]), *pairs))
        with pytest.raises(
            StudyError, match=r"^the tokenizer has no chat template; give the pairs as texts$"
        ):
            train(order(tmp_path / "bred", preferences=chats))
    assert nothing_left(tmp_path / "bred")


# -- what stops it


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 0.03}, r"KL .* nats a token beyond 0\.3, at step"),
        ({"max_margin": 1e-6}, r"reward margin .* beyond 1e-06, at step"),
        ({"learning_rate": 0.03, "kind": "sft"}, r"KL .* beyond 0\.3"),
    ],
    ids=["KL", "margin", "KL of SFT"],
)
def test_a_training_that_runs_away_stops_and_says_why(order, tmp_path, settings, words):
    trained = train(order(tmp_path / "away", steps=20, **settings))
    assert re.match(words, trained.stopped)
    assert trained.steps < 20
    record = json.loads((tmp_path / "away" / "mutant.json").read_text())
    assert record["trained"]["stopped"] == trained.stopped


def test_a_loss_that_is_no_number_stops_a_training_that_nothing_else_watches(order, preferences, tmp_path):
    few = Preferences(preferences.pairs[:9])  # too few to hold any back
    trained = train(order(tmp_path / "nan", preferences=few, kind="sft", learning_rate=1e30))
    assert re.match("loss nan, at step", trained.stopped)
    assert trained.steps < PLAN.steps


def test_what_is_no_number_any_more_is_written_as_null(order, tmp_path):
    """PostgreSQL takes no NaN in JSON: the decision on such a mutant could never be written down."""
    trained = train(order(tmp_path / "broken", learning_rate=1e30, steps=3))
    assert trained.stopped
    assert trained.kl is None
    assert trained.perplexity[1] is None
    text = (tmp_path / "broken" / "mutant.json").read_text()
    assert not {"NaN", "Infinity"} & set(re.findall(r"\w+", text))


# -- what goes wrong


def nothing_left(target):
    return list(target.parent.iterdir()) == []


def test_a_training_that_fails_leaves_nothing(order, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(DPOTrainer, "training_step", fail)
    with pytest.raises(RuntimeError, match="CUDA error"):
        train(order(tmp_path / "bred"))
    assert nothing_left(tmp_path / "bred")


def test_a_full_disk_is_named_and_leaves_nothing(order, tmp_path, monkeypatch):
    def full(self, folder, **_):
        Path(folder, "adapter_config.json").write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(peft.PeftModel, "save_pretrained", full)
    with pytest.raises(StudyError, match="bred: No space left on device"):
        train(order(tmp_path / "bred", steps=1))
    assert nothing_left(tmp_path / "bred")


SENDS = """
import sys
from multiprocessing.connection import Connection
from recipesearch.errors import StudyError
channel = Connection(int(sys.argv[1]))
channel.send(StudyError(f"no room in {channel.recv().target.name}"))
"""

NO_MEMORY = """
from recipesearch.mutation import training, training_process
def train(order):
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
training.train = train
training_process.main()
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (NO_MEMORY, "out of memory: CUDA out of memory.*; lower mutation.batch, mutation.max_length or"),
        ("import os; os.kill(os.getpid(), 9)", "the training of bred failed: crash: .* ended by SIGKILL"),
        ("raise SystemExit('boom')", "the training of bred failed: crash: .* exit code 1 .boom; log: "),
        (SENDS, "^no room in bred$"),
    ],
    ids=["no memory", "killed", "ended", "told"],
)
def test_a_training_process_that_dies_is_told_with_the_cause(order, tmp_path, monkeypatch, code, words):
    monkeypatch.setattr(training_process, "COMMAND", (sys.executable, "-c", code))
    with pytest.raises(StudyError, match=words):
        training_process.train_apart(order(tmp_path / "bred"))


def test_a_folder_that_is_no_adapter_is_no_parent(source, tmp_path):
    with pytest.raises(RefusedInput, match="not an adapter folder"):
        adapted(source, tmp_path)


def test_the_key_follows_from_what_decides_the_adapter(source):
    def key(study="evo", parent=source, seed=1, items=("digest",), **settings):
        return mutant_key(study, parent, PLAN.model_copy(update=settings), seed, items)

    assert len(key()) == 16
    assert key(tolerance=0.5, pool=3) == key()
    others = [
        key(study="other"),  # in the same database
        key(parent=Parent("other", source.source)),
        key(seed=2),
        key(items=("other",)),
        key(beta=0.2),
    ]
    assert len({key(), *others}) == 6


# -- how far the model has gone


KEPT = (("#dh~fc=", "FC"), ("#35>49=", "D"), ("#2=", "GG"))


@pytest.fixture
def lora(zoo):
    """A function (untouched) -> a LoRA model as it starts, or of random numbers; and its tokenizer."""

    def make(untouched):
        model = AutoModelForCausalLM.from_pretrained(zoo / "lang")
        config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=untouched)
        torch.manual_seed(0)
        return peft.get_peft_model(model, config), AutoTokenizer.from_pretrained(zoo / "lang")

    return make


def rows(model, tokenizer, prompt, answer):
    """Log-probabilities at each of an answer's tokens, the end's too; and those tokens."""
    asked, said = tokenizer(prompt).input_ids, [*tokenizer(answer).input_ids, tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(torch.tensor([asked + said])).logits[0].double()
    return logits[len(asked) - 1 : -1].log_softmax(-1), said


def test_before_any_step_nothing_has_moved(lora, zoo):
    model, tokenizer = lora(True)
    watch = Watch(KEPT, tokenizer, PLAN)
    plain = AutoModelForCausalLM.from_pretrained(zoo / "lang")
    assert watch.divergence(model) == 0
    found = [rows(plain, tokenizer, *text) for text in KEPT]
    losses = [-float(row[token]) for table, said in found for row, token in zip(table, said, strict=True)]
    assert len(losses) == 3 + 2 + 3
    assert watch.perplexity(model) == pytest.approx(2.718281828 ** (sum(losses) / len(losses)), rel=1e-4)


def test_the_divergence_is_the_mean_kl_of_the_answers_tokens(lora):
    model, tokenizer = lora(False)
    total = count = 0
    for text in KEPT:
        tuned, said = rows(model, tokenizer, *text)
        with model.disable_adapter():
            before, _ = rows(model, tokenizer, *text)
        total += float((tuned.exp() * (tuned - before)).sum())
        count += len(said)
    assert total / count > 0.01
    assert Watch(KEPT, tokenizer, PLAN).divergence(model) == pytest.approx(total / count, rel=1e-4)
    assert Watch((), tokenizer, PLAN).divergence(model) is None
    assert Watch((), tokenizer, PLAN).perplexity(model) is None

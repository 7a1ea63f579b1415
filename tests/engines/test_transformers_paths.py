"""Paths of any depth in one live transformers model: each is the model that its checkpoint would be."""

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from recipesearch.engines.transformers import TransformersEngine  # noqa: E402
from recipesearch.errors import VerificationFailed  # noqa: E402
from recipesearch.exporting.verify import verify  # noqa: E402
from recipesearch.merging import stock  # noqa: E402
from recipesearch.merging.materialize import write_recipe  # noqa: E402
from recipesearch.parents.identify import identify  # noqa: E402
from recipesearch.recipe import Recipe, Slice, Source, freeze  # noqa: E402
from recipesearch.recipe.hosting import hosted  # noqa: E402
from recipesearch.recipe.mergekit_yaml import to_yaml  # noqa: E402


def path(*pieces, donor=None):
    """A passthrough recipe of (parent, start, stop) pieces."""
    slices = tuple(Slice((Source(parent, (start, stop)),)) for parent, start, stop in pieces)
    return Recipe("passthrough", slices, donor or pieces[0][0], dtype="float32")


@pytest.fixture(scope="module")
def engine(family):
    return TransformersEngine(family, family[0], "float32", threads=1)


def rebuilt(recipe, folder, answers):
    """The answers of a recipe's own checkpoint."""
    parent = identify(str(write_recipe(recipe, folder)), folder)
    alone = TransformersEngine([parent], parent, "float32", threads=1)
    return answers(alone.lm)


def test_paths_of_depth_2_to_8_answer_as_their_checkpoints_whatever_came_before(
    engine, family, answers, tmp_path
):
    base, math, lang = family
    first = None
    for depth in (2, 8, 3, 5, 7, 4, 6, 2):
        recipe = path((math, 0, min(depth, 4)), (lang, 8 - depth if depth > 4 else 4, 4), donor=base)
        recipe = recipe if depth > 4 else path((math, 0, depth - 1), (lang, 3, 4), donor=base)
        assert len(recipe.path) == depth
        given = answers(engine.load(recipe))
        assert given == rebuilt(recipe, tmp_path / f"{depth}{first is None}", answers)
        first = first or given
    assert given == first, "depth 2 again"


def test_a_weight_merge_after_a_path_is_whole_again(engine, family, answers, average):
    before = answers(engine.load(average(family)))
    engine.load(path((family[1], 0, 4), (family[2], 3, 4)))
    assert answers(engine.load(average(family))) == before


def test_identity_layers_change_no_answer(engine, family, answers):
    """vLLM hosts short paths this way; here both forms are the same model, to the bit."""
    for pieces in ([(1, 0, 2), (2, 3, 4)], [(2, 0, 4), (1, 3, 4)]):
        recipe = path(*((family[place], start, stop) for place, start, stop in pieces))
        filled = hosted(recipe, 8, "LlamaForCausalLM")
        assert len(filled.path) == 8
        assert answers(engine.load(filled)) == answers(engine.load(recipe))


# -- families whose configs have an entry for each layer


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, zoo):
    """Two Qwen2 models whose upper layers attend to a window, and a Gemma 2 of alternating ones."""
    shape = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 4}
    shape |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    window = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2}
    found = {}
    for name, kind, more in (
        ("a", "Qwen2", window),
        ("b", "Qwen2", window),
        ("gemma", "Gemma2", {"head_dim": 16, "sliding_window": 3}),
    ):
        config = getattr(transformers, f"{kind}Config")(**shape, **more)
        with torch.random.fork_rng():
            torch.manual_seed(len(found))
            model = transformers.AutoModelForCausalLM.from_config(config)
            for parameter in model.parameters():
                parameter.data += 0.2 * torch.randn_like(parameter)
        folder = tmp_path_factory.mktemp("mixed") / name
        model.save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / file).write_bytes((zoo / "base" / file).read_bytes())
        found[name] = identify(str(folder), folder)
    return found


def test_the_list_of_layer_types_follows_the_path(mixed, answers, tmp_path):
    one, other = mixed["a"], mixed["b"]
    recipe = path((one, 0, 1), (other, 3, 4), (one, 1, 4))
    engine = TransformersEngine([one, other], one, "float32", threads=1)
    given = answers(engine.load(recipe))
    config = json.loads((write_recipe(recipe, tmp_path / "model") / "config.json").read_text())
    kinds = ["full", "sliding", "full", "sliding", "sliding"]
    assert config["layer_types"] == [f"{kind}_attention" for kind in kinds]
    assert config["num_hidden_layers"] == 5
    parent = identify(str(tmp_path / "model"), tmp_path)
    assert given == answers(TransformersEngine([parent], parent, "float32", threads=1).lm)


@pytest.mark.long
def test_stock_mergekit_fails_on_the_list_and_not_with_a_stub_for_its_base(mixed, tmp_path):
    """Should mergekit mend that, this test says so: exports then need no stub."""
    recipe = path((mixed["a"], 0, 4), (mixed["b"], 3, 4))
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe, lambda p: p.source, {}))
    with pytest.raises(VerificationFailed, match="must be equal to the number of `layer_types`"):
        stock.run(stock.command(tmp_path / "recipe.yaml", tmp_path / "model", 0, 1))
    proof = verify(tmp_path / "recipe.yaml")
    assert proof.tensors == 5 * 12 + 3


def test_gemma_2_layers_can_be_identities_but_not_scaled(mixed, answers):
    parent = mixed["gemma"]
    engine = TransformersEngine([parent], parent, "float32", threads=1)
    plain = path((parent, 0, 2))
    assert answers(engine.load(hosted(plain, 4, "Gemma2ForCausalLM"))) == answers(engine.load(plain))
    doubled = Slice((Source(parent, (0, 2), freeze({"scale": {"filter": "o_proj", "value": 2.0}})),))
    other = answers(engine.load(Recipe("passthrough", (doubled,), parent, dtype="float32")))
    assert abs(other.rolling[0] - answers(engine.load(plain)).rolling[0]) < 1e-3, "a norm hides the scale"

"""The transformers engine: a loaded recipe is the model that stock mergekit writes, whatever came before."""

import shutil

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from recipesearch.engines.opening import choose_device  # noqa: E402
from recipesearch.engines.transformers import TransformersEngine  # noqa: E402
from recipesearch.errors import TrialFailed  # noqa: E402
from recipesearch.merging import stock  # noqa: E402
from recipesearch.merging.materialize import write_recipe  # noqa: E402
from recipesearch.parents.identify import identify, model_directory  # noqa: E402
from recipesearch.recipe import Recipe, Slice, Source, freeze  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = ("12+34=", "max(", "@90")


@pytest.fixture(scope="module")
def family(zoo):
    return [identify(str(zoo / name), zoo) for name in ("base", "math", "lang")]


@pytest.fixture(scope="module")
def engine(family):
    return TransformersEngine(family, family[0], "float32", batch_size=4)


def task_vectors(parents, weight=0.5, method="dare_ties", **keys):
    own = freeze({"weight": weight, "density": 0.6})
    sources = (Source(parents[0]), *(Source(parent, None, own) for parent in parents[1:]))
    return Recipe(method, (Slice(sources),), parents[0], dtype="float32", seed=3, **keys)


def average(parents, weights=(1, 1, 1), **keys):
    sources = tuple(Source(p, None, freeze({"weight": w})) for p, w in zip(parents, weights, strict=False))
    return Recipe("linear", (Slice(sources),), parents[0], dtype="float32", **keys)


def answers(model, tokenizer):
    """Logits and greedy continuations of some prompts."""
    logits, texts = [], []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            logits.append(model(**ids).logits)
            texts.append(tokenizer.decode(model.generate(**ids, max_new_tokens=4, do_sample=False)[0]))
    return logits, texts


def same(one, other):
    return one[1] == other[1] and all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))


def loaded(engine, recipe):
    lm = engine.load(recipe)
    return answers(lm.model, lm.tokenizer)


def test_a_recipe_gives_the_same_answers_whatever_was_loaded_between(engine, family):
    one, other = task_vectors(family), average(family)
    first = loaded(engine, one)
    between = loaded(engine, other)
    assert same(loaded(engine, one), first)
    assert not same(first, between)


@pytest.mark.parametrize("method", ["dare_ties", "linear"])
def test_a_loaded_recipe_is_the_model_that_stock_mergekit_writes(
    method, engine, family, stock_merge, tmp_path
):
    recipe = task_vectors(family) if method == "dare_ties" else average(family, (1, 0.5, 0.25))
    folder = shutil.copytree(model_directory(family[0]), tmp_path / "rebuilt")
    save_file(stock_merge(recipe), folder / "model.safetensors", {"format": "pt"})
    rebuilt = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert same(loaded(engine, recipe), answers(rebuilt.eval(), tokenizer))
    live = engine.load(recipe).model.state_dict()
    assert stock.require_equal(live.items(), folder) == 39


def test_a_parent_alone_answers_as_its_own_checkpoint(engine, family):
    for place, parent in enumerate(family):
        weights = [float(place == other) for other in range(3)]
        model = transformers.AutoModelForCausalLM.from_pretrained(parent.source)
        tokenizer = transformers.AutoTokenizer.from_pretrained(parent.source)
        assert same(loaded(engine, average(family, weights)), answers(model, tokenizer))


def test_the_engine_merges_in_the_recipes_dtype_and_answers_in_its_own(family):
    engine = TransformersEngine(family, family[0], "bfloat16")
    live = engine.load(average(family)).model
    assert {parameter.dtype for parameter in live.parameters()} == {torch.bfloat16}
    reference = TransformersEngine(family, family[0], "float32").load(average(family)).model
    for name, tensor in reference.state_dict().items():
        assert torch.equal(live.state_dict()[name], tensor.to(torch.bfloat16))


def test_the_language_model_is_one_object_for_every_recipe(engine, family):
    """So that what is built on it (requests, chat templates) holds for all."""
    lm = engine.lm
    assert engine.load(average(family)) is lm
    assert engine.load(task_vectors(family)) is lm


def test_loading_leaves_the_callers_random_numbers_and_the_parents_files(engine, family):
    before = load_file(f"{family[1].source}/model.safetensors")
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    engine.load(task_vectors(family))
    assert torch.equal(torch.rand(3), expected)
    after = load_file(f"{family[1].source}/model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


# -- tied models


@pytest.fixture(scope="module")
def with_tokenizer(random_llama, zoo, tmp_path_factory):
    """A function: a random Llama as the zoo's tokenizer knows it, as a Parent."""

    def make(seed, tied):
        plain = model_directory(random_llama(seed, tied, vocab_size=48))
        folder = shutil.copytree(plain, tmp_path_factory.mktemp("tied") / "model")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(zoo / "base" / name, folder)
        return identify(str(folder), folder)

    return make


@pytest.mark.parametrize("tied", [(True, True), (False, True)], ids=str)
def test_tied_models_answer_as_the_checkpoint_that_is_written(tied, with_tokenizer, tmp_path):
    parents = [with_tokenizer(seed, tie) for seed, tie in enumerate(tied)]
    engine = TransformersEngine(parents, parents[0], "float32")
    for recipe in (average(parents), task_vectors(parents), average(parents, (1, 0.25))):
        folder = write_recipe(recipe, tmp_path / recipe.digest)
        written = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        assert same(loaded(engine, recipe), answers(written, tokenizer))
        live = engine.lm.model
        ends = live.get_input_embeddings().weight, live.get_output_embeddings().weight
        assert (ends[0] is ends[1]) == tied[0]


def test_a_head_that_differs_from_the_embeddings_fails_in_a_tied_model(with_tokenizer):
    """Such a checkpoint has both, and transformers then loads it untied: another model than the live one."""
    parents = [with_tokenizer(0, True), with_tokenizer(1, False)]
    engine = TransformersEngine(parents, parents[0], "float32")
    with pytest.raises(TrialFailed, match=r"the live model ties .*'lm_head\.weight', which differ"):
        engine.load(average(parents))
    assert loaded(engine, average(parents[:1]))


def test_a_stream_that_does_not_cover_the_live_model_fails(with_tokenizer):
    """A tied recipe in an untied model: its head would keep the numbers of the recipe before."""
    tied, untied = [with_tokenizer(seed, True) for seed in (1, 2)], with_tokenizer(3, False)
    engine = TransformersEngine([*tied, untied], untied, "float32")
    with pytest.raises(TrialFailed, match=r"incompatible: the merge has no tensor 'lm_head\.weight'"):
        engine.load(average(tied))
    assert loaded(engine, average([untied]))


def test_a_stream_of_other_shapes_fails(family, random_llama):
    other = random_llama(1, vocab_size=48, num_hidden_layers=4)
    mixed = TransformersEngine([*family, other], family[0], "float32")
    with pytest.raises(TrialFailed, match=r"incompatible: 'lm_head\.weight' is"):
        mixed.load(average([other]))


# -- what is not finite, and what comes after


@pytest.fixture
def explosive(family, tmp_path):
    """The zoo's lang model with finite weights whose answers overflow."""
    folder = shutil.copytree(family[2].source, tmp_path / "explosive")
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if "down_proj" in name or "norm" in name:
            tensor *= 1e30
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return identify(str(folder), folder)


def test_logits_that_are_not_finite_fail_and_the_next_load_stands_alone(family, explosive):
    engine = TransformersEngine([*family, explosive], family[0], "float32")
    good = loaded(engine, average(family))
    with pytest.raises(TrialFailed, match="answers NaN or Inf"):
        engine.load(average([explosive]))
    assert same(loaded(engine, average(family)), good)


def test_a_merge_that_fails_half_way_is_repaired_by_the_next_load(family):
    engine = TransformersEngine(family, family[0], "float32")
    good = loaded(engine, average(family))
    spoilt = [{"filter": "layers.3.mlp", "value": -1}, {"value": 1}]
    sources = (
        Source(family[0], None, freeze({"weight": 1})),
        Source(family[1], None, freeze({"weight": spoilt})),
    )
    with pytest.raises(TrialFailed, match=r"layers\.3\.mlp"):
        engine.load(Recipe("linear", (Slice(sources),), family[0], dtype="float32"))
    assert not same(answers(engine.lm.model, engine.lm.tokenizer), good)  # a mixture, as the docstring says
    assert same(loaded(engine, average(family)), good)


# -- devices


def test_auto_is_the_gpu_where_there_is_one_and_other_names_stay():
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cuda:1") == "cuda:1"


def test_the_engine_tells_what_decides_bits_besides_the_recipe(family):
    before = torch.get_num_threads()
    try:
        engine = TransformersEngine(family[:1], family[0], "float32", threads=1)
        assert torch.get_num_threads() == 1
        assert (engine.device, engine.threads) == ("cpu", 1)
    finally:
        torch.set_num_threads(before)

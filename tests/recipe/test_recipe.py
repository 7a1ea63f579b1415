"""Recipes as data: what decides a digest, that equal digests mean equal tensors, and the YAML form."""

import random
from dataclasses import replace

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipesearch.errors import PlanError
from recipesearch.recipe import (
    Conditional,
    Parent,
    Recipe,
    Slice,
    Source,
    Tokenizer,
    TokenizerFolder,
    TokenRow,
    freeze,
    thaw,
)
from recipesearch.recipe.mergekit_yaml import PROVENANCE, from_yaml, to_yaml
from recipesearch.recipe.methods import METHODS

NAMES = ("base", "a", "b", "c", "d", "e", "f")
PLACED = {name: Parent(f"digest of {name}", f"/models/{name}") for name in NAMES}
TASK_VECTOR = [name for name, method in METHODS.items() if method.base == "required"]
RANDOM = [name for name, method in METHODS.items() if method.random]
WEIGHTED = [name for name, row in METHODS.items() if any(p.gene == "weight" for p in row.parameters)]


def read(config, parents=PLACED):
    return from_yaml(yaml.safe_dump(config, sort_keys=False), parents.__getitem__)[0]


def parameters_of(method, weight):
    """A valid setting of every parameter that one parent has, with this weight."""
    values = {"weight": weight, "density": 0.6, "gamma": 0.05, "epsilon": 0.2, "scale": weight}
    return {p.name: values[p.name] for p in METHODS[method].parameters if p.scope != "shared"}


def config_of(method, weights, dtype="float32", seed=3):
    """A mergekit configuration over parents a, b, ... with these weights, the base where it is wanted."""
    row = METHODS[method]
    names = NAMES[1 : row.most + 1 if row.most else None]
    config = {
        "merge_method": method,
        "base_model": "a" if row.base in ("either", "ignored") else "base",
        "models": [
            {"model": name, "parameters": parameters_of(method, weight)}
            for name, weight in zip(names, weights, strict=False)
        ],
    }
    if shared := {p.gene for p in row.parameters if p.scope == "shared"} & {"t", "step"}:
        config["parameters"] = {"t": weights[0] * (0.01 if "step" in shared else 1)}
    return config | {"dtype": dtype, PROVENANCE: {"seed": seed}}


# -- what decides the digest

NUMBERS = st.floats(0, 4, allow_nan=False).map(lambda x: round(x, 3))
VALUES = NUMBERS | st.lists(NUMBERS, min_size=1, max_size=4)
SETTINGS = VALUES | st.lists(
    st.builds(lambda f, v: {"filter": f, "value": v}, st.sampled_from(["mlp", "self_attn", "norm"]), VALUES)
    | VALUES.map(lambda v: {"value": v}),
    min_size=1,
    max_size=3,
)
FORMATS = [
    lambda x: x,
    lambda x: f"{x}",
    lambda x: f"{x:.12e}",
    lambda x: f"{x}00",
    lambda x: int(x) if x == int(x) else x,
]


def reformatted(value, rng):
    """The same data with its keys in another order and its numbers written in other ways."""
    if isinstance(value, dict):
        items = [(key, reformatted(item, rng)) for key, item in value.items()]
        return dict(rng.sample(items, len(items)))
    if isinstance(value, list):
        return [reformatted(item, rng) for item in value]
    return rng.choice(FORMATS)(value) if isinstance(value, float) else value


@given(weight=SETTINGS, density=SETTINGS, shared=VALUES, seed=st.integers())
def test_key_order_and_number_format_do_not_move_the_digest(weight, density, shared, seed):
    config = config_of("ties", [0.5, 0.25]) | {"parameters": {"lambda": shared, "normalize": True}}
    config["models"][0]["parameters"] = {"weight": weight, "density": density}
    other = reformatted(config, random.Random(seed))
    other["models"] = [dict(reversed(model.items())) for model in other["models"]]
    assert read(other).digest == read(config).digest


@pytest.mark.parametrize(
    ("one", "other"), [("0.30", "0.3"), ("1", "1.0"), ("1", "'1'"), ("0.1", "1e-1"), ("[0, 1]", "[0.0, 1.0]")]
)
def test_the_same_number_written_otherwise_has_the_same_digest(one, other):
    text = "merge_method: linear\nmodels:\n  - {model: a, parameters: {weight: %s}}"
    assert read(yaml.safe_load(text % one)).digest == read(yaml.safe_load(text % other)).digest


@given(weight=SETTINGS, changed=SETTINGS)
def test_another_setting_moves_the_digest(weight, changed):
    config, other = config_of("ties", [0.5]), config_of("ties", [0.5])
    config["models"][0]["parameters"]["weight"], other["models"][0]["parameters"]["weight"] = weight, changed
    assert (read(config).digest == read(other).digest) == (freeze({"w": weight}) == freeze({"w": changed}))


@pytest.mark.parametrize("method", METHODS)
def test_where_the_parents_lie_does_not_matter_and_what_they_hold_does(method):
    config = config_of(method, [0.5, 0.25])
    moved = {name: Parent(parent.digest, f"/elsewhere/{name}") for name, parent in PLACED.items()}
    changed = PLACED | {"a": Parent("digest of another", PLACED["a"].source)}
    assert read(config, moved) == read(config)
    assert read(config, moved).digest == read(config).digest
    assert read(config, changed).digest != read(config).digest


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_counts_only_where_random_numbers_are_drawn(method):
    digests = {read(config_of(method, [0.5, 0.25], seed=seed)).digest for seed in range(3)}
    assert len(digests) == (3 if METHODS[method].random else 1)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "passthrough"])
def test_the_parents_order_counts(method):
    config = config_of(method, [0.5, 0.5])
    config["models"].reverse()
    assert read(config).digest != read(config_of(method, [0.5, 0.5])).digest


@pytest.mark.parametrize("key", ["merge_method", "base_model", "dtype", "out_dtype", "parameters"])
def test_everything_that_decides_tensors_counts(key):
    config = config_of("ties", [0.5, 0.25])
    changed = {
        "merge_method": "dare_ties",
        "base_model": "f",
        "dtype": "bfloat16",
        "out_dtype": "bfloat16",
        "parameters": {"normalize": False},
    }
    assert read(config | {key: changed[key]}).digest != read(config).digest


def test_an_out_dtype_that_repeats_the_dtype_changes_nothing():
    config = config_of("ties", [0.5])
    assert read(config | {"out_dtype": "float32"}).digest == read(config).digest


def test_slices_count_by_their_layers_and_their_order():
    def stack(*ranges):
        return read(
            {
                "merge_method": "linear",
                "slices": [
                    {"sources": [{"model": "a", "layer_range": r, "parameters": {"weight": 1}}]}
                    for r in ranges
                ],
            }
        ).digest

    assert len({stack([0, 2], [2, 4]), stack([2, 4], [0, 2]), stack([0, 2], [1, 3]), stack([0, 4])}) == 4


# -- zero-weight parents

ZEROS = [0, 0.0, "0", "0e0", [0, 0.0], [{"filter": "mlp", "value": 0}, {"value": [0, 0]}]]


@pytest.mark.parametrize("zero", ZEROS, ids=str)
@pytest.mark.parametrize("method", WEIGHTED)
def test_a_zero_weight_parent_drops_out_of_a_sum_unless_random_numbers_are_drawn(method, zero):
    plain = config_of(method, [0.5, 0.25, 0.75])
    padded = config_of(method, [0.5, 0.25, 0.75])
    padded["models"].insert(1, {"model": "f", "parameters": parameters_of(method, zero)})
    assert (read(padded).digest == read(plain).digest) == (
        METHODS[method].additive and not METHODS[method].random
    )


@pytest.mark.parametrize("method", WEIGHTED)
def test_beyond_four_inputs_a_zero_weight_parent_stays(method):
    plain, padded = config_of(method, [0.5] * 4), config_of(method, [0.5] * 4)
    padded["models"].append({"model": "f", "parameters": parameters_of(method, 0)})
    assert read(padded).digest != read(plain).digest


@pytest.mark.parametrize(
    "weight",
    [
        1e-9,
        [0, 0.1],
        [],  # mergekit falls through to the shared weight
        [{"filter": "mlp", "value": 0}],  # covers the mlp tensors only
        [{"filter": "mlp", "value": 0.5}, {"value": 0}],
        [{"value": []}],
    ],
    ids=str,
)
def test_a_weight_that_is_not_zero_everywhere_does_not_drop_out(weight):
    plain = config_of("linear", [0.5, 0.25]) | {"parameters": {"weight": 0.5}}
    padded = config_of("linear", [0.5, 0.25]) | {"parameters": {"weight": 0.5}}
    padded["models"].append({"model": "f", "parameters": {"weight": weight}})
    assert read(padded).digest != read(plain).digest


def test_parents_that_are_all_weighted_zero_stay():
    assert read(config_of("ties", [0, 0])).digest != read(config_of("ties", [0])).digest


# -- equal digests, equal tensors


@pytest.fixture(scope="module")
def models(random_llama):
    return {name: random_llama(seed) for seed, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def merge(models):
    from recipesearch.merging.materialize import merger

    owner = merger(models.values())
    return lambda recipe: {name: tensor.clone() for name, tensor in owner.stream(recipe)}


@st.composite
def variations(draw, method):
    """Two configurations: one, and the same with zero-weight parents, other formats and key orders."""
    weights = draw(st.lists(st.sampled_from([0, 0.3, 0.5, 1, 1.25]), min_size=2, max_size=6))
    if METHODS[method].normalised and not any(weights):
        weights[0] = 1
    config = config_of(method, weights, draw(st.sampled_from(["float32", "bfloat16"])))
    rng = random.Random(draw(st.integers(0, 999)))
    varied = reformatted(config, rng)
    spare = [name for name in NAMES[1:] if name not in [m["model"] for m in config["models"]]]
    if METHODS[method].most is None:
        for name in spare[: draw(st.integers(0, 2))]:
            place = rng.randint(0, len(varied["models"]))
            varied["models"].insert(place, {"model": name, "parameters": parameters_of(method, 0)})
        if draw(st.booleans()):
            varied["models"] = [
                m for m in varied["models"] if float(m["parameters"].get("weight", 1)) or rng.random() < 0.5
            ] or varied["models"]
    varied[PROVENANCE] = {"seed": draw(st.sampled_from([3, 3, 3, 4]))}
    return config, varied


@pytest.mark.parametrize("method", METHODS)
def test_recipes_that_share_a_digest_have_equal_tensors(method, models, merge):
    torch = pytest.importorskip("torch")
    agreed = []

    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(variations(method))
    def check(pair):
        one, other = (read(config, models) for config in pair)
        if one.digest != other.digest:
            return
        agreed.append(pair)
        mine, theirs = merge(one), merge(other)
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            assert tensor.dtype == theirs[name].dtype
            assert torch.equal(tensor, theirs[name]), name

    check()
    assert len(agreed) >= 4  # the property above was put to the test


@pytest.mark.parametrize("method", [name for name in RANDOM if name in WEIGHTED])
def test_a_zero_weight_parent_changes_the_tensors_of_random_methods(method, models, merge):
    """Why they may not share a digest there: the parent's draws shift those of the parents after it."""
    torch = pytest.importorskip("torch")
    padded = config_of(method, [0.5, 0.25])
    padded["models"].insert(0, {"model": "f", "parameters": parameters_of(method, 0)})
    one, other = (merge(read(config, models)) for config in (config_of(method, [0.5, 0.25]), padded))
    assert not all(torch.equal(one[name], other[name]) for name in one)


# -- parents and lineage


def test_parents_are_distinct_and_include_the_base():
    recipe = read(config_of("ties", [0.5, 0.25]))
    assert recipe.parents() == (PLACED["a"], PLACED["b"], PLACED["base"])
    assert read(config_of("slerp", [0.5, 0.5])).parents() == (PLACED["a"], PLACED["b"])


def test_a_parents_reference_is_mergekits_notation():
    assert Parent("d", "org/name", "abc", "/adapters/x").reference == "org/name@abc+/adapters/x"


# -- YAML


@given(weight=SETTINGS, density=SETTINGS)
def test_thaw_undoes_freeze(weight, density):
    frozen = freeze({"weight": weight, "density": density})
    assert freeze(thaw(frozen)) == frozen
    hash(frozen)


def test_a_star_filter_is_no_filter_as_in_mergekit():
    assert freeze({"weight": [{"filter": "*", "value": 1}]}) == (("weight", (Conditional(1),)),)


@pytest.mark.parametrize(
    "setting",
    [
        {"filter": "mlp"},
        {"value": 1, "weight": 2},
        None,
        [None],
        [{"value": None}],
        {"value": {"a": 1}},
        [[1]],
    ],
    ids=str,
)
def test_a_setting_that_mergekit_would_misread_is_refused(setting):
    config = config_of("linear", [0.5])
    config["models"][0]["parameters"]["weight"] = setting
    with pytest.raises(PlanError, match="not a mergekit configuration"):
        read(config)


@given(weight=SETTINGS, shared=SETTINGS, seed=st.integers(0, 2**40), stack=st.booleans())
def test_a_recipe_survives_its_yaml(weight, shared, seed, stack):
    sources = tuple(
        Source(PLACED[name], (index, index + 2) if stack else None, freeze({"weight": weight}))
        for index, name in enumerate(("a", "base"))
    )
    part = Slice(sources, freeze({"normalize": shared}) if stack else ())
    recipe = Recipe(
        "ties",
        (part, part) if stack else (part,),
        PLACED["base"],
        freeze({"lambda": shared}),
        "float32",
        "bfloat16",
        seed,
    )
    by_place = {parent.reference: parent for parent in PLACED.values()}
    text = to_yaml(recipe, lambda parent: parent.reference, {"score": 0.5})
    again, provenance = from_yaml(text, by_place.__getitem__)
    assert again == recipe
    assert again.digest == recipe.digest
    assert provenance == {"seed": seed, "digest": recipe.digest, "score": 0.5}


def test_mergekit_reads_our_yaml_as_we_do():
    """Filters, gradients and shared parameters reach mergekit's own model of its configuration."""
    config_module = pytest.importorskip("mergekit.config")
    config = config_of("ties", [0.5, [0, 1]]) | {"parameters": {"lambda": [{"filter": "mlp", "value": 2}]}}
    text = to_yaml(read(config), lambda parent: parent.reference, {})
    parsed = config_module.MergeConfiguration.model_validate(yaml.safe_load(text))
    assert parsed.parameters["lambda"][0].filter == "mlp"
    assert parsed.models[1].parameters["weight"] == [0, 1]
    assert [str(model.model) for model in parsed.models] == ["/models/a", "/models/b", "/models/base"]


def test_an_unlisted_base_is_the_last_input_as_in_mergekit():
    listed = config_of("ties", [0.5])
    listed["models"].append({"model": "base"})
    assert read(listed) == read(config_of("ties", [0.5]))


def test_a_plain_mergekit_file_has_seed_zero_and_no_provenance():
    config = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]}
    recipe, provenance = from_yaml(yaml.safe_dump(config), PLACED.__getitem__)
    assert (recipe.seed, provenance) == (0, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merge_method": "tie"}, "unknown merge method 'tie': did you mean 'ties'"),
        ({"basemodel": "a"}, "unknown recipe key 'basemodel': did you mean 'base_model'"),
        (
            {"tokenizer_sorce": "union"},
            "unknown recipe key 'tokenizer_sorce': did you mean 'tokenizer_source'",
        ),
        ({"parameters": {"lamda": 1}}, "unknown parameter 'lamda': did you mean 'lambda'"),
        ({"parameters": {"epsilon": 1}}, "unknown parameter 'epsilon'"),
        ({"models": [{"modle": "a"}]}, "unknown key of a model 'modle': did you mean 'model'"),
        (
            {"models": [{"model": "a", "parameters": {"wieght": 1}}]},
            "unknown parameter 'wieght': did you mean 'weight'",
        ),
        ({"slices": [{"source": []}], "models": None}, "unknown key of a slice 'source': did you mean 'sour"),
        ({"slices": [{"sources": [{"layers": 1}]}], "models": None}, "unknown key of a source 'layers'"),
        ({"slices": []}, "exactly one of 'models' and 'slices'"),
        ({"models": None}, "exactly one of 'models' and 'slices'"),
        ({"models": [{"parameters": {"weight": 1}}]}, "not a mergekit configuration"),
        ({"models": 3}, "not a mergekit configuration"),
        ({"slices": [{"sources": [{"model": "a"}]}], "models": None}, "not a mergekit configuration"),
        ({PROVENANCE: {"seed": "x"}}, "not a mergekit configuration"),
    ],
    ids=str,
)
def test_what_mergekit_would_ignore_or_choke_on_is_refused_with_the_nearest_name(change, message):
    with pytest.raises(PlanError) as refused:
        read(config_of("ties", [0.5]) | change)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- a list",
        "",
        "models: []",
        "merge_method: [linear]\nmodels: []",
        "merge_method: linear\nmodels: [a]",
    ],
)
def test_text_that_is_no_recipe_is_a_plan_error(text):
    with pytest.raises(PlanError):
        from_yaml(text, PLACED.__getitem__)


# -- tokenizers

TOKENIZER = Tokenizer(
    TokenizerFolder("digest of a union", "/kept/tokenizer"),
    (
        ("<|im_start|>", TokenRow(PLACED["a"])),
        ("new", TokenRow(PLACED["base"], "é", force=True)),
        ("other", TokenRow(PLACED["base"], 0)),
        ("nothing", TokenRow()),
    ),
    64,
    "chatml",
)
OTHERS = [
    replace(TOKENIZER, source="base"),
    replace(TOKENIZER, source=TokenizerFolder("digest of another", "/kept/tokenizer")),
    replace(TOKENIZER, tokens=TOKENIZER.tokens[::-1]),
    replace(TOKENIZER, tokens=(("<|im_start|>", TokenRow(PLACED["base"])), *TOKENIZER.tokens[1:])),
    replace(TOKENIZER, tokens=(("<|im_start|>", TokenRow(PLACED["a"], force=True)), *TOKENIZER.tokens[1:])),
    replace(TOKENIZER, tokens=(*TOKENIZER.tokens[:2], ("other", TokenRow(PLACED["base"], "0")))),
    replace(TOKENIZER, pad_to_multiple_of=None),
    replace(TOKENIZER, chat_template="llama3"),
]


def pair(tokenizer=None, weight=0.5):
    sources = (Source(PLACED["base"], (0, 2)), Source(PLACED["a"], (0, 2), freeze({"weight": weight})))
    return Recipe("ties", (Slice(sources),), PLACED["base"], dtype="bfloat16", tokenizer=tokenizer)


def test_a_digest_from_before_there_were_tokenizers_stands():
    one, other = Parent("a" * 64, "/a"), Parent("b" * 64, "/b")
    sources = (Source(one), Source(other, (0, 2), freeze({"weight": 0.5, "density": [0.1, 1]})))
    recipe = Recipe("ties", (Slice(sources),), one, freeze({"lambda": 1}), "bfloat16", None, 3)
    assert recipe.digest == "53409993e0dacb74e833e80c0869ee36f9024d95d62e7f1440d44a169a67b79c"


def test_all_of_a_tokenizer_counts_but_the_place_of_its_files():
    digests = [pair(tokenizer).digest for tokenizer in (None, TOKENIZER, *OTHERS)]
    assert len(set(digests)) == len(digests)
    moved = replace(TOKENIZER, source=TokenizerFolder("digest of a union", "/elsewhere"))
    assert pair(moved).digest == pair(TOKENIZER).digest
    assert moved == TOKENIZER


def test_a_parent_of_weight_zero_counts_where_it_has_tokens_of_its_own():
    alone = replace(pair(weight=0.0), slices=(Slice(pair().slices[0].sources[:1]),))
    for tokenizer in (None, TOKENIZER):
        with_it = replace(pair(weight=0.0), method="linear", tokenizer=tokenizer)
        without = replace(alone, method="linear", tokenizer=tokenizer)
        assert (with_it.digest == without.digest) == (tokenizer is None)


@pytest.mark.parametrize("tokenizer", [TOKENIZER, *OTHERS, Tokenizer()], ids=range(len(OTHERS) + 2))
def test_a_tokenizer_goes_to_yaml_and_back(tokenizer):
    folders = {"/kept/tokenizer": tokenizer.source}
    by_place = {parent.reference: parent for parent in PLACED.values()}
    text = to_yaml(pair(tokenizer), lambda parent: parent.reference, {})
    assert from_yaml(text, by_place.__getitem__, folders.__getitem__)[0] == pair(tokenizer)


def test_mergekit_reads_our_tokenizer_as_we_do():
    config_module = pytest.importorskip("mergekit.config")
    text = to_yaml(pair(TOKENIZER), lambda parent: parent.reference, {})
    parsed = config_module.MergeConfiguration.model_validate(yaml.safe_load(text))
    assert str(parsed.tokenizer.source) == "/kept/tokenizer"
    assert parsed.tokenizer.pad_to_multiple_of == 64
    assert parsed.chat_template == "chatml"
    tokens = parsed.tokenizer.tokens
    assert list(tokens) == ["<|im_start|>", "new", "other", "nothing"]
    assert str(tokens["<|im_start|>"].source) == "/models/a"
    assert (tokens["new"].source.token, tokens["new"].force) == ("é", True)
    assert tokens["other"].source.token_id == 0
    assert tokens["nothing"].source.kind == "zero"


def test_mergekits_old_key_is_read_as_the_new_one():
    config = config_of("linear", [1, 2])
    assert read(config | {"tokenizer_source": "base"}) == read(config | {"tokenizer": {"source": "base"}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": {"sorce": "base"}}, "unknown key of tokenizer 'sorce': did you mean 'source'"),
        ({"tokenizer": {}, "tokenizer_source": "base", "chat_template": "chatml"}, None),
        ({"tokenizer": {"source": "base"}, "tokenizer_source": "base"}, "not both"),
        ({"tokenizer": {"source": "elsewhere"}}, "'elsewhere' is neither union nor base"),
        ({"chat_template": "chatml"}, "'chat_template' needs a 'tokenizer'"),
        ({"tokenizer": {"tokens": {"x": {"force": True}}}}, "token 'x' needs a source"),
        ({"tokenizer": {"tokens": {"x": {"sources": "a"}}}}, "unknown key of token 'x'"),
        ({"tokenizer": {"tokens": {"x": {"source": {"kind": "model_token", "model": "a"}}}}}, "exactly one"),
        ({"tokenizer": {"tokens": {"x": {"source": {"kind": "one"}}}}}, "token 'x' needs a source"),
    ],
    ids=str,
)
def test_a_tokenizer_that_cannot_be_honoured_is_refused(change, message):
    config = config_of("linear", [1, 2]) | change
    if message is None:
        assert read(config).tokenizer == Tokenizer("base", chat_template="chatml")
        return
    with pytest.raises(PlanError, match=message):
        read(config)

"""The layer space: every genome is a path within its bounds, and W is folded into what layers add."""

import random

import pytest
from optuna.distributions import CategoricalDistribution

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from recipesearch.errors import PlanError  # noqa: E402
from recipesearch.merging.layered import configs, output_config  # noqa: E402
from recipesearch.merging.materialize import directories, merger  # noqa: E402
from recipesearch.parents.identify import identify  # noqa: E402
from recipesearch.plan import LayersPlan, SearchPlan  # noqa: E402
from recipesearch.recipe import Parent, Tokenizer  # noqa: E402
from recipesearch.samplers.fit import choose  # noqa: E402
from recipesearch.space.layers import LayerSpace  # noqa: E402
from recipesearch.space.places import Parts  # noqa: E402
from recipesearch.space.pool import Pool  # noqa: E402
from recipesearch.space.seeds import seeds, start  # noqa: E402

ENCODINGS = ("slots", "slices", "steps")
DEPTHS = {"a": 4, "b": 4, "c": 6}


def pool_of(depths=DEPTHS, architecture="LlamaForCausalLM", **more):
    parents = {name: Parent(f"digest of {name}", f"/models/{name}") for name in depths}
    return Pool(parents, None, depths, Parts((), (), ()), "float32", 7, architecture=architecture, **more)


def space_of(depths=DEPTHS, **settings):
    return LayerSpace(LayersPlan(**({"depth": (2, 8)} | settings)), pool_of(depths))


def draw(space, rng):
    genome = {}
    for name, gene in space.genes.items():
        choices = isinstance(gene, CategoricalDistribution)
        genome[name] = rng.choice(gene.choices) if choices else rng.uniform(gene.low, gene.high)
    return genome


def path_of(recipe):
    return [(part.sources[0].parent.digest[-1], layer) for part, layer in recipe.path]


SETTINGS = [
    {"encoding": encoding, "scale": scale, "scale_by": by, "embed": ends, "head": ends}
    for encoding in ENCODINGS
    for scale, by in ((None, "place"), ((0.5, 1.5), "place"), ((0.5, 1.5), "pair"))
    for ends in ("first", "path", "any")
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(str(v) for v in s.values()))
def test_every_genome_is_a_path_within_the_bounds_and_idle_genes_do_not_count(settings):
    space, rng = space_of(**settings), random.Random(1)
    for _ in range(150):
        genome = draw(space, rng)
        recipe = space.express(genome)
        assert 2 <= len(recipe.path) <= 8
        assert all(layer < DEPTHS[name] for name, layer in path_of(recipe))
        assert len(recipe.slices[0].sources) == len(recipe.slices[-1].sources) == 1
        other, active = draw(space, rng), space.active(genome)
        mixed = {name: genome[name] if name in active else other[name] for name in genome}
        assert space.express(mixed).digest == recipe.digest


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_seeds_are_whole_parents_splices_and_stacks(encoding):
    space = space_of({"a": 4, "b": 4}, encoding=encoding, scale=(0.5, 1.5))
    paths = {label: path_of(space.express(genome)) for label, genome in seeds(space)}
    assert paths["parent a"] == [("a", layer) for layer in range(4)]
    assert paths["splice b+a"] == [("b", 0), ("b", 1), ("a", 2), ("a", 3)]
    if encoding != "steps":  # which never go back
        assert paths["stack a+b"] == [("a", 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)]
    for label, genome in seeds(space):
        recipe = space.express(genome)
        assert all(not part.sources[0].parameters for part in recipe.slices), "W is 1"
        assert len(recipe.slices) == (1 if label.startswith("parent") else 2)


def test_seeds_outside_the_bounds_are_left_out():
    labels = [label for label, _ in seeds(space_of({"a": 4, "b": 4}, encoding="slots", depth=(5, 6)))]
    assert labels == ["stack a+b", "stack b+a"]
    assert seeds(space_of({"a": 4, "b": 4}, scale=(1.1, 1.5))) == [], "no genome has W = 1"


def test_a_path_that_is_too_short_starts_with_the_donors_layers():
    space = space_of({"a": 2, "b": 2}, encoding="steps", depth=(5, 6), embed="path", head="path")
    path = path_of(space.express({"step.0": "-", "step.1": "b+b"}))
    assert path == [("a", 0), ("a", 1), ("a", 0), ("b", 1), ("b", 1)]


def test_slots_start_with_the_first_parents_layers_likely():
    """2403.13187: the indicators of the first model's layers, in the first pass, start at two sigma."""
    mean = start(space_of({"a": 4, "b": 4}, encoding="slots", repeats=3))
    assert len(mean) == 2 * 4 * 3
    likely = {name for name, value in mean.items() if value > 0.5}
    assert likely == {f"in.a.{layer}.0" for layer in range(4)}
    assert {round(abs(value - 0.5) * 6, 6) for value in mean.values()} == {2.0}


def test_too_many_slots_keep_the_greatest_and_too_few_are_filled_from_the_greatest():
    space = space_of({"a": 4, "b": 4}, encoding="slots", repeats=1, depth=(2, 3), embed="path", head="path")
    genome = {f"in.a.{layer}.0": 0.6 + layer / 10 for layer in range(4)}
    assert path_of(space.express(genome | {f"in.b.{layer}.0": 0.1 for layer in range(4)})) == [
        ("a", 1),
        ("a", 2),
        ("a", 3),
    ]
    genome = {f"in.{name}.{layer}.0": 0.1 for name in "ab" for layer in range(4)}
    assert path_of(space.express(genome | {"in.b.1.0": 0.4, "in.b.3.0": 0.3})) == [("b", 1), ("b", 3)]


def test_embeddings_and_head_come_from_whom_the_plan_says():
    path = [("a", 0), ("b", 1)]
    for where, ends in (("first", ("a", "a")), ("path", ("a", "b"))):
        space = space_of({"a": 4, "b": 4}, embed=where, head=where)
        recipe = space.express(space.genome(path))
        outer = [recipe.slices[place].sources[0].parent.digest[-1] for place in (0, -1)]
        assert tuple(outer) == ends
    searched = space_of({"a": 4, "b": 4})
    recipe = searched.express(searched.genome(path) | {"embed": "b", "head": "a"})
    assert [s.sources[0].parent.digest[-1] for s in recipe.slices] == ["b", "a", "b", "a"]
    assert recipe.slices[0].sources[0].layers == recipe.slices[-1].sources[0].layers == (0, 0)


def test_what_cannot_be_searched_is_refused_by_name():
    for architecture in ("Gemma2ForCausalLM", "Olmo2ForCausalLM"):
        with pytest.raises(PlanError, match=rf"scale: {architecture} normalises"):
            LayerSpace(LayersPlan(depth=(2, 8), scale=(0.5, 1.5)), pool_of(architecture=architecture))
        LayerSpace(LayersPlan(depth=(2, 8)), pool_of(architecture=architecture))  # a path alone is fine
    with pytest.raises(PlanError, match="NewForCausalLM is not known"):
        LayerSpace(LayersPlan(depth=(2, 8), scale=(0.5, 1.5)), pool_of(architecture="NewForCausalLM"))
    with pytest.raises(PlanError, match="nothing to align"):
        LayerSpace(LayersPlan(depth=(2, 8)), pool_of(tokenizer=Tokenizer()))


def test_auto_takes_a_sampler_that_fits_each_encoding():
    search = SearchPlan(sampler="auto")
    first = {"embed": "first", "head": "first", "scale": (0.5, 1.5)}
    assert choose(search, space_of(encoding="slots", **first).genes, 1).sampler == "cmaes"
    assert (
        choose(search, space_of(encoding="slots", scale_by="pair", **first).genes, 1).sampler == "sep_cmaes"
    )
    assert choose(search, space_of(encoding="steps", **first).genes, 1).sampler == "catcmawm"


# -- W, against an implementation of the paper's words

TINY = {
    "Llama": ("LlamaConfig", {}),
    "Mistral": ("MistralConfig", {"sliding_window": None}),
    "Qwen2": ("Qwen2Config", {}),
    "Phi": ("PhiConfig", {}),
    "Phi3": ("Phi3Config", {"pad_token_id": 0}),
    "Gemma": ("GemmaConfig", {"head_dim": 8}),
    "Qwen3": ("Qwen3Config", {"head_dim": 8}),
}
# Of the log-probabilities. transformers computes RMS norms in float32 in any dtype; Phi has none: 1e-8.
ERROR = {"float64": 1e-5, "float32": 3e-5}


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Two tiny models of random weights of each architecture."""
    found = {}
    for family, (kind, more) in TINY.items():
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "vocab_size": 40}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
        # The norm's epsilon is not scaled along: without it, nothing is left but rounding.
        norm = {"layer_norm_eps": 1e-14} if family == "Phi" else {"rms_norm_eps": 1e-14}
        config = getattr(transformers, kind)(**(sizes | heads | norm | more))
        parents = {}
        for seed, name in enumerate("ab"):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                model = transformers.AutoModelForCausalLM.from_config(config)
                for parameter in model.parameters():  # biases start as zeros
                    parameter.data += 0.3 * torch.randn_like(parameter)
            folder = tmp_path_factory.mktemp(family) / name
            model.save_pretrained(folder)
            parents[name] = identify(str(folder), folder)
        found[family] = parents
    return found


def live(recipe, dtype):
    """A recipe's model, from its merged tensors."""
    config = output_config(recipe, configs(directories(recipe.parents())))
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    missing, left = model.load_state_dict(dict(merger(recipe.parents()).stream(recipe)), strict=False)
    assert not left
    assert all("lm_head" in name for name in missing)  # tied
    return model


def multiply_what_enters(model, factors):
    """The paper's W as it is written: each layer's input times a number."""

    def hook(factor):
        return lambda module, given: (given[0] * factor, *given[1:])

    for layer, factor in zip(model.model.layers, factors, strict=True):
        layer.register_forward_pre_hook(hook(factor))


@pytest.mark.heavy
@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_folded_scales_are_the_forward_pass_with_scales_between_layers(family, dtype, families):
    parents, rng = families[family], random.Random(2)
    pool = Pool(
        parents,
        None,
        {"a": 4, "b": 4},
        Parts((), (), ()),
        dtype,
        0,
        architecture=f"{family}ForCausalLM",
    )
    space = LayerSpace(LayersPlan(encoding="steps", depth=(6, 8), scale=(0.5, 1.5)), pool)
    plain = LayerSpace(LayersPlan(encoding="steps", depth=(6, 8)), pool)
    tokens = torch.tensor([[5, 9, 2, 30, 17, 8]])
    worst = 0.0
    for _ in range(4):
        genome = draw(space, rng)
        folded, path = space.express(genome), path_of(space.express(genome))
        turns = [round(genome[f"scale.{layer}"], 4) for _, layer in path]
        # A step's W counts before its first layer; layers that fill a short path up have none.
        steps = space._path(genome)
        places = [step.place for step in steps]
        first = [place and place not in places[:index] for index, place in enumerate(places)]
        factors = [turn if begins else 1.0 for turn, begins in zip(turns, first, strict=True)]
        explicit = live(plain.express({name: genome[name] for name in plain.genes}), getattr(torch, dtype))
        multiply_what_enters(explicit, factors)
        with torch.no_grad():
            ours = torch.log_softmax(live(folded, getattr(torch, dtype))(tokens).logits, -1)
            theirs = torch.log_softmax(explicit(tokens).logits, -1)
        assert any(part.sources[0].parameters for part in folded.slices)
        worst = max(worst, float((ours - theirs).abs().max()))
    print(f"{family} {dtype}: {worst:.1e}")
    assert worst < ERROR[dtype]

"""The merging stream against mergekit's own ``run_merge``: equal in every bit, and what it refuses."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mergekit")

from example_recipes import recipe_of, settings_of, takes  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from recipesearch.errors import RefusedInput, TrialFailed  # noqa: E402
from recipesearch.merging import stock  # noqa: E402
from recipesearch.merging.materialize import merger  # noqa: E402
from recipesearch.parents.identify import identify  # noqa: E402
from recipesearch.recipe import Recipe, Slice, Source, freeze  # noqa: E402
from recipesearch.recipe.mergekit_yaml import to_yaml  # noqa: E402
from recipesearch.recipe.methods import METHODS  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
RANDOM = [name for name, method in METHODS.items() if method.random]
# One tensor of 2**20 elements, the embeddings, and the rest small: sorting dominates these merges.
BIG = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 12, "vocab_size": 2**14}

# The printed command takes a process of its own: one method of each kind.
COMMANDED = ("linear", "slerp", "dare_ties", "arcee_fusion")


def merged(recipe):
    return {name: tensor.clone() for name, tensor in merger(recipe.parents()).stream(recipe)}


def require_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name], tensor), name


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def family(zoo):
    return [identify(str(zoo / name), zoo) for name in ("base", "math", "lang")]


@pytest.fixture(scope="module")
def deep(random_llama):
    """Three models of 12 layers, so that name order is not layer order."""
    return [random_llama(seed, num_hidden_layers=12) for seed in (11, 12, 13)]


# -- parity


# Every method in every form and in both types; over all methods, every form in both types.
PAIRWISE = [
    (method, form, ("float32", "bfloat16")[(place + number) % 2])
    for number, method in enumerate(METHODS)
    for place, form in enumerate(("plain", "filters", "gradients"))
]


@pytest.mark.parametrize(("method", "form", "dtype"), PAIRWISE)
def test_every_method_equals_run_merge_on_the_zoo(method, form, dtype, family, stock_merge):
    recipe = recipe_of(method, family, form, dtype)
    require_same(merged(recipe), stock_merge(recipe))


@pytest.mark.parametrize("form", ["plain", "filters"])
@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.base == "optional"])
def test_methods_that_can_do_without_a_base_equal_run_merge_without_one(method, form, family, stock_merge):
    recipe = recipe_of(method, family, form, baseless=True)
    require_same(merged(recipe), stock_merge(recipe))
    assert not torch.equal(
        merged(recipe)["lm_head.weight"], merged(recipe_of(method, family, form))["lm_head.weight"]
    )


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_equals_run_merge_on_twelve_layers_and_a_million_elements(
    method, dtype, random_llama, stock_merge
):
    """Large enough for torch to use threads, deep enough for layers.10 to come before layers.2."""
    parents = [random_llama(seed, True, **BIG) for seed in (21, 22, 23)]
    recipe = recipe_of(method, parents, "both", dtype)
    ours = merged(recipe)
    assert max(tensor.numel() for tensor in ours.values()) >= 2**20
    require_same(ours, stock_merge(recipe))


STACKS = {
    "repeated": [((0, 8),) * 3, ((4, 12),) * 3],
    "shifted": [((0, 6), (2, 8), (4, 10)), ((6, 12), (4, 10), (0, 6))],
    "permuted": [((0, 4), (4, 8), (8, 12)), ((4, 8), (8, 12), (0, 4)), ((8, 12), (0, 4), (4, 8))],
    "reversed": [((i, i + 1),) * 3 for i in reversed(range(12))],
    "many": [((i % 7, i % 7 + 5), (i * 3 % 7, i * 3 % 7 + 5), (i % 5, i % 5 + 5)) for i in range(5)],
}


@pytest.mark.parametrize(
    ("method", "stack"),
    [*(("dare_ties", stack) for stack in STACKS), ("linear", "many")],
)
def test_stacked_layers_equal_run_merge(method, stack, deep, stock_merge):
    """Repeated layers share their input names, which leaves mergekit's order of random draws open."""
    recipe = recipe_of(method, deep, "both", layers=STACKS[stack])
    ours = merged(recipe)
    depth = sum(ranges[0][1] - ranges[0][0] for ranges in STACKS[stack])
    assert len(ours) == 9 * depth + 3
    require_same(ours, stock_merge(recipe))


@pytest.mark.parametrize("method", ["linear", "dare_linear"])
def test_slices_of_different_parents_equal_run_merge(method, deep, stock_merge):
    base, one, two = deep
    own = settings_of(method, "gradients")[0]
    base_own = own if method == "linear" else ()
    slices = tuple(
        Slice((Source(base, layers, base_own), Source(other, layers, own)))
        for other, layers in ((one, (0, 6)), (two, (0, 6)), (one, (6, 12)))
    )
    recipe = Recipe(method, slices, base, dtype="float32", seed=5)
    require_same(merged(recipe), stock_merge(recipe))


@pytest.mark.parametrize("dtypes", [("float32", "bfloat16"), ("bfloat16", "float32"), (None, "float16")])
@pytest.mark.parametrize("method", ["linear", "dare_ties"])
def test_the_out_dtype_is_applied_after_the_merge(method, dtypes, family, stock_merge):
    recipe = recipe_of(method, family, dtype=dtypes[0], out_dtype=dtypes[1])
    ours = merged(recipe)
    assert {tensor.dtype for tensor in ours.values()} == {getattr(torch, dtypes[1])}
    require_same(ours, stock_merge(recipe))


@pytest.mark.parametrize("method", ["linear", "slerp", "ties"])
def test_parents_of_different_dtypes_merge_as_in_mergekit(method, random_llama, stock_merge):
    parents = [random_llama(1), random_llama(2, dtype="bfloat16"), random_llama(3, dtype="float16")]
    recipe = recipe_of(method, parents, dtype=None)
    require_same(merged(recipe), stock_merge(recipe))


@pytest.mark.parametrize("tied", [(True, True, True), (True, False, False), (False, True, False)], ids=str)
@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "dare_ties"])
def test_tied_parents_equal_run_merge(method, tied, random_llama, stock_merge):
    """A tied parent's head is read from its embeddings, under their name, also by a random method."""
    parents = [random_llama(seed, tie) for seed, tie in enumerate(tied)]
    recipe = recipe_of(method, parents)
    ours = merged(recipe)
    used = takes(method, tied)[0]
    assert ("lm_head.weight" in ours) == (not all(used))
    require_same(ours, stock_merge(recipe))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_base_may_stand_anywhere_among_the_sources(place, family, stock_merge):
    recipe = recipe_of("dare_ties", family)
    sources = list(recipe.slices[0].sources)
    sources.insert(place, sources.pop(0))
    recipe = replace(recipe, slices=(Slice(tuple(sources)),))
    require_same(merged(recipe), stock_merge(recipe))


def test_a_base_outside_the_slices_only_gives_the_config(family, stock_merge):
    base, one, two = family
    part = Slice(tuple(Source(p, (0, 4), freeze({"weight": 0.5})) for p in (one, two)))
    recipe = Recipe("linear", (part,), base, dtype="float32")
    require_same(merged(recipe), stock_merge(recipe))


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_the_seed_is_mergekits(seed, family, stock_merge):
    recipe = recipe_of("dare_linear", family, seed=seed)
    require_same(merged(recipe), stock_merge(recipe))


@pytest.fixture(scope="module")
def printed_commands(family, tmp_path_factory):
    """Each method's exported recipe, merged by the printed command in a process of its own, two at a time."""
    folder = tmp_path_factory.mktemp("stock")

    def rebuild(method):
        recipe = recipe_of(method, family, "both", "bfloat16")
        file, output = folder / f"{method}.yaml", folder / method
        file.write_text(to_yaml(recipe, lambda parent: parent.reference, {"scores": {"a": 1}}))
        stock.run(stock.command(file, output, recipe.seed, threads=1))
        return recipe, output

    with ThreadPoolExecutor(2) as pool:
        yield {method: pool.submit(rebuild, method) for method in COMMANDED}


@pytest.mark.parametrize("method", COMMANDED)
def test_the_printed_command_rebuilds_the_same_bits(method, printed_commands):
    recipe, output = printed_commands[method].result()
    assert stock.require_equal(merger(recipe.parents()).stream(recipe), output) == 39


# -- the stream itself


@pytest.mark.parametrize("method", ["linear", "dare_ties", "slerp"])
def test_ordinary_recipes_stream_in_sorted_name_order(method, deep):
    names = [name for name, _ in merger(deep).stream(recipe_of(method, deep))]
    assert names == sorted(names)
    assert len(names) == 111


@pytest.mark.parametrize("method", RANDOM)
def test_the_callers_random_numbers_are_untouched_between_tensors_and_after(method, family):
    torch.manual_seed(99)
    state, drawn = torch.get_rng_state(), []
    for _ in merger(family).stream(recipe_of(method, family)):
        drawn.append(torch.rand(2))
    after = torch.rand(2)
    torch.set_rng_state(state)
    assert all(torch.equal(torch.rand(2), mine) for mine in drawn)
    assert torch.equal(torch.rand(2), after)


@pytest.mark.parametrize("method", RANDOM)
def test_the_callers_draws_do_not_reach_the_merge(method, family):
    recipe = recipe_of(method, family)
    quiet, noisy = merged(recipe), {}
    for name, tensor in merger(family).stream(recipe):
        noisy[name] = tensor.clone()
        torch.manual_seed(len(noisy))
        torch.rand(7)
    require_same(noisy, quiet)


@pytest.mark.parametrize("method", METHODS)
def test_a_merger_gives_a_recipe_the_same_tensors_whatever_it_merged_before(method, family):
    """One merger serves a whole study: no state and no write to the parents' tensors may carry over."""
    owner = merger(family)
    first, again = recipe_of(method, family, "both"), recipe_of(method, family, "both")
    expected = {name: tensor.clone() for name, tensor in owner.stream(first)}
    for other in METHODS:
        for _ in owner.stream(recipe_of(other, family, "plain", "bfloat16")):
            pass
    next(owner.stream(recipe_of("dare_ties", family)))  # and one that is dropped half way
    require_same(dict(owner.stream(again)), expected)


# -- what fails


def damaged(family, tmp_path, name, change):
    """The family with ``lang``'s tensor changed in place."""
    folder = tmp_path / "damaged"
    shutil.copytree(family[2].source, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors[name])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return [*family[:2], identify(str(folder), folder)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["linear", "ties", "della"])
def test_a_parent_that_is_not_finite_fails_and_is_named(method, value, family, tmp_path):
    name = "model.layers.2.mlp.up_proj.weight"

    def spoil(tensor):
        tensor[3, 4] = value

    parents = damaged(family, tmp_path, name, spoil)
    recipe = recipe_of(method, parents)
    with pytest.raises(TrialFailed) as failure:
        merged(recipe)
    assert str(parents[2].source) in str(failure.value)
    assert name in str(failure.value)


def test_a_merge_that_is_not_finite_fails_and_names_the_tensor(family):
    weights = [{"filter": "layers.1.mlp.up", "value": 1}, {"value": 0.5}]
    opposite = [{"filter": "layers.1.mlp.up", "value": -1}, {"value": 0.5}]
    sources = tuple(
        Source(parent, None, freeze({"weight": weight}))
        for parent, weight in zip(family, (weights, opposite, 0), strict=False)
    )
    recipe = Recipe("linear", (Slice(sources),), family[0], dtype="float32")
    with pytest.raises(TrialFailed, match=r"merge gives NaN or Inf in 'model\.layers\.1\.mlp\.up_proj"):
        merged(recipe)


def test_a_merge_that_overflows_its_dtype_fails(family):
    sources = tuple(Source(parent, None, freeze({"weight": 1e30})) for parent in family[:2])
    recipe = Recipe("linear", (Slice(sources),), family[0], freeze({"normalize": False}), out_dtype="float16")
    with pytest.raises(TrialFailed, match=r"lm_head\.weight"):
        merged(recipe)


def test_first_and_last_slices_with_different_numbers_of_sources_are_refused(deep):
    """mergekit takes the first slice's count for the last slice's parents, and drops one in silence."""
    own = freeze({"weight": 0.5})

    def part(parents, layers):
        return Slice(tuple(Source(parent, layers, own) for parent in parents))

    for first, last in ((2, 3), (3, 2)):
        slices = (part(deep[:first], (0, 6)), part(deep[:last], (6, 12)))
        with pytest.raises(RefusedInput, match="different numbers of sources"):
            merged(Recipe("linear", slices, deep[0], dtype="float32"))


REFUSED = {
    "a missing weight": lambda r, parents: replace(r, slices=(Slice(tuple(map(Source, parents))),)),
    "a base that is no input": lambda r, parents: replace(r, slices=(Slice(r.slices[0].sources[1:]),)),
    "a parent twice": lambda r, _: replace(r, slices=(Slice(r.slices[0].sources * 2),)),
    "an unknown dtype": lambda r, _: replace(r, dtype="float12"),
    "unequal layer counts": lambda r, _: replace(
        r,
        slices=(Slice(tuple(replace(s, layers=(0, 2 + n)) for n, s in enumerate(r.slices[0].sources))),),
    ),
    "layers that are not there": lambda r, _: replace(
        r, slices=(Slice(tuple(replace(s, layers=(2, 6)) for s in r.slices[0].sources)),)
    ),
    "some layers without a range": lambda r, _: replace(r, slices=r.slices * 2),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_recipe_that_mergekit_refuses_is_refused_input(case, family, stock_merge):
    recipe = REFUSED[case](recipe_of("dare_ties", family), family)
    with pytest.raises(RefusedInput):
        merged(recipe)
    if case != "a base that is no input":  # there mergekit adds what our recipes say outright
        with pytest.raises(Exception):  # noqa: B017, PT011
            stock_merge(recipe)


def test_a_density_and_epsilon_that_della_refuses_are_refused_input(family):
    own = freeze({"weight": 0.5, "density": 0.9, "epsilon": 0.2})
    sources = (Source(family[0]), Source(family[1], None, own))
    with pytest.raises(RefusedInput, match="Epsilon"):
        merged(Recipe("della", (Slice(sources),), family[0], dtype="float32"))


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_whole_models_without_their_base_are_refused_since_mergekit_would_add_it(method, family):
    own = settings_of(method, "plain")[0]
    recipe = Recipe(method, (Slice((Source(family[1], None, own),)),), family[0], dtype="float32")
    with pytest.raises(RefusedInput, match="base"):
        merged(recipe)


def test_a_merge_of_a_missing_folder_says_so(family):
    assert Path(family[0].source).is_dir()
    with pytest.raises(RefusedInput):
        identify("/nowhere/at-all", Path("/"))

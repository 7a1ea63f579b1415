"""The weight space: a flat, complete genome that always expresses a recipe which mergekit can merge."""

import random
from dataclasses import replace

import pytest
from example_spaces import ALL, BASELESS, CASES, NAMES, PARTS, SPACES, TASK_VECTORS, draw, space_of
from optuna.distributions import CategoricalDistribution

from recipesearch.errors import PlanError
from recipesearch.plan import WeightsPlan
from recipesearch.recipe import Parent, thaw
from recipesearch.recipe.methods import METHODS
from recipesearch.space.pool import Pool
from recipesearch.space.seeds import seeds, start
from recipesearch.space.weights import WeightSpace


@pytest.fixture(params=CASES, ids=lambda case: case[0])
def space(request):
    return space_of(*request.param[1:])


# -- the genome


def test_the_genome_is_flat_and_complete(space):
    """Every gene is in every genome, with a plain value: none depends on another's."""
    rng = random.Random(1)
    for _ in range(50):
        genome = draw(space, rng)
        assert genome.keys() == space.genes.keys()
        space.express(genome)
    assert all(isinstance(value, bool | float | str) for _, one in seeds(space) for value in one.values())


def test_every_gene_matters_to_some_recipe(space):
    """A gene that no genome expresses would waste the sampler's draws."""
    rng = random.Random(2)
    silent = set(space.genes)
    for _ in range(300):
        genome = draw(space, rng)
        digest = space.express(genome).digest
        other = draw(space, rng)
        silent -= {n for n in silent if space.express(genome | {n: other[n]}).digest != digest}
        if not silent:
            break
    assert not silent


def test_a_missing_gene_is_an_error(space):
    genome = draw(space, random.Random(3))
    for name in genome:
        with pytest.raises(KeyError, match=name.replace(".", r"\.")):
            space.express({n: v for n, v in genome.items() if n != name})


@pytest.mark.parametrize("layers", [1, 3, 4, 7, 12, 32, 61])
def test_layer_groups_tile_the_layers(layers):
    for count in range(1, layers + 1):
        space = space_of({"methods": ("linear",), "layer_groups": count}, layers=layers)
        recipe = space.express(draw(space, random.Random(4)))
        ranges = [part.sources[0].layers for part in recipe.slices]
        assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
        assert ranges[-1][1] == layers
        sizes = [stop - start for start, stop in ranges]
        assert len(sizes) == count
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


def test_more_groups_than_layers_are_refused():
    with pytest.raises(PlanError, match="layer_groups: 5 for 4 layers"):
        space_of({"methods": ("linear",), "layer_groups": 5})


def test_a_base_that_all_methods_set_apart_has_no_genes_and_one_that_some_count_has():
    apart = space_of({"methods": TASK_VECTORS}).genes
    counted = space_of({"methods": ("linear", "ties")}).genes
    assert not [name for name in apart if name.startswith("weight.base")]
    assert [name for name in counted if name.startswith("weight.base")]
    assert not [name for name in counted if name.startswith("density.base")]


# -- expression


def resolved(recipe):
    """Every tensor's parameters, by mergekit's own resolver; raises where mergekit would."""
    from mergekit import merge_methods
    from mergekit.config import ConfigReader, MergeConfiguration
    from mergekit.parameter_resolver import resolve_parameters

    from recipesearch.recipe.mergekit_yaml import to_mergekit

    config = MergeConfiguration.model_validate(to_mergekit(recipe, lambda parent: parent.source))
    method = merge_methods.get(recipe.method)
    for part in config.slices:
        method.validate_inputs([source.model for source in part.sources], config.base_model)
        reader = ConfigReader(config=config, t=0, slice_out=part)
        for tensor in ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight"):
            yield resolve_parameters(
                method.spec,
                tensor_name=tensor,
                inputs={source.model: tensor for source in part.sources},
                sources=reader.parameter_sources,
                base_model=reader.base_model,
                t=0,
            )


def test_two_thousand_random_genomes_express_recipes_that_mergekit_accepts(space):
    pytest.importorskip("mergekit")
    rng = random.Random(5)
    seen = set()
    for number in range(2000):
        genome = draw(space, rng)
        recipe = space.express(genome)
        assert recipe.seed == 7
        assert recipe.base is not None or METHODS[recipe.method].base == "optional"
        counts = {len(part.sources) for part in recipe.slices}
        assert len(counts) == 1  # mergekit miscounts otherwise
        shape = (recipe.method, counts.pop())
        if number % 20 and shape in seen:
            continue  # resolving is slow, and each shape is resolved often enough
        seen.add(shape)
        for shared, per_input in resolved(recipe):
            method = METHODS[recipe.method]
            assert all(set(values) <= method.accepts for values in (shared, *per_input.values()))
            if method.normalised and "normalize" not in shared:
                assert sum(values["weight"] for values in per_input.values() if values) > 0


def settings_in(recipe):
    return [dict(thaw(source.parameters)) for part in recipe.slices for source in part.sources]


@pytest.mark.parametrize("density", [(0.1, 1.0), (0.01, 0.02), (0.999, 1.0), (0.0101, 0.9999)], ids=str)
def test_della_epsilon_and_breadcrumbs_gamma_stay_where_mergekit_takes_them(density):
    space = space_of({"methods": ("della", "breadcrumbs"), "density": density})
    rng = random.Random(6)
    values = {"epsilon": [], "gamma": []}
    for _ in range(2000):
        for own in settings_in(space.express(draw(space, rng))):
            if 0 < own.get("density", 1) < 1:
                share = own["density"]
                if "epsilon" in own:
                    values["epsilon"].append(own["epsilon"])
                    assert share + own["epsilon"] < 1
                    assert share - own["epsilon"] > 0
                if "gamma" in own:
                    values["gamma"].append(own["gamma"])
                    assert own["gamma"] < 1 - share
    assert all(max(found) > 0 for found in values.values())


def test_a_genome_always_expresses_the_same_digest(space):
    rng = random.Random(7)
    again = random.Random(7)
    for _ in range(50):
        genome = draw(space, rng)
        shuffled = dict(random.Random(8).sample(list(genome.items()), len(genome)))
        assert space.express(genome).digest == space.express(shuffled).digest
        assert space.express(draw(space, again)) == space.express(genome)


def test_idle_genes_do_not_move_the_digest(space):
    rng = random.Random(9)
    count = 0
    for _ in range(100):
        genome, other = draw(space, rng), draw(space, rng)
        idle = space.genes.keys() - space.active(genome)
        count += len(idle)
        changed = genome | {name: other[name] for name in idle}
        assert space.express(changed).digest == space.express(genome).digest
    if any(name == "method" for name in space.genes):
        assert count


def test_a_gene_that_the_method_or_the_parents_leave_out_is_idle():
    space = space_of({"methods": ("linear", "ties", "slerp"), "parents": "subset"})
    genome = dict(seeds(space))["ties defaults"] | {"use.math": False}
    assert space.active(genome) == {
        "method", "use.math", "use.lang", "weight.lang.g0", "density.lang", "lambda"
    }  # fmt: skip
    assert space.active(genome | {"method": "slerp"}) == {"method", "pair", "t.g0"}


def test_a_difference_too_small_to_write_is_no_difference(space):
    genome = seeds(space)[-1][1]
    finer = {n: v + 1e-9 if isinstance(v, float) and v < 0.5 else v for n, v in genome.items()}
    assert space.express(finer).digest == space.express(genome).digest


def test_a_subset_without_parents_counts_as_all_of_them():
    space = space_of({"methods": ("ties", "linear"), "parents": "subset"})
    genome = seeds(space)[-1][1]
    nobody = genome | {f"use.{name}": False for name in NAMES}
    for method in ("ties", "linear"):
        expressed = space.express(nobody | {"method": method})
        assert expressed == space.express(genome | {"method": method})
        assert len(expressed.slices[0].sources) == 3


def test_a_normalised_average_of_zero_weights_is_the_uniform_one():
    space = space_of({"methods": ("linear",), "layer_groups": 2})
    zero = dict.fromkeys(space.genes, 0.0)
    uniform = dict(seeds(space))["uniform average"]
    assert space.express(zero).digest == space.express(uniform).digest
    half = zero | {"weight.math.g0": 1.0}  # and place by place, where only some are all zero
    weights = [[own["weight"] for own in settings_in(space.express(half))][place] for place in range(2)]
    assert weights == [1.0, 1.0]


# -- really merged


@pytest.fixture(scope="module")
def family(zoo):
    pytest.importorskip("mergekit")
    from recipesearch.parents.identify import identify

    return {name: identify(str(zoo / name), zoo) for name in NAMES}


@pytest.fixture(scope="module")
def merge(family):
    from recipesearch.merging.materialize import merger

    owner = merger(family.values())
    return lambda recipe: {name: tensor.clone() for name, tensor in owner.stream(recipe)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_random_genomes_really_merge_to_finite_models(case, family, merge):
    """The stream raises for what is not finite; the shapes below show that nothing is left out."""
    space = space_of(case[1], case[2], parents=family)
    rng = random.Random(10)
    for _ in range(6):
        assert len(merge(space.express(draw(space, rng)))) == 39


@pytest.mark.parametrize("extreme", ["low", "high"])
@pytest.mark.parametrize("method", METHODS)
def test_the_corners_of_the_ranges_merge_to_finite_models(method, extreme, family, merge):
    settings = {"methods": (method,), "layer_groups": 2}
    if any(parameter.gene == "density" for parameter in METHODS[method].parameters):
        settings["density"] = (0.01, 0.9999)
    space = space_of(settings, parents=family)
    genome = {
        name: gene.choices[0] if isinstance(gene, CategoricalDistribution) else getattr(gene, extreme)
        for name, gene in space.genes.items()
    }
    assert len(merge(space.express(genome))) == 39


# -- seeds


def test_seeds_are_complete_labelled_once_in_range_and_distinct(space):
    found = seeds(space)
    labels = [label for label, _ in found]
    assert len(set(labels)) == len(labels) > 0
    for _, genome in found:
        assert genome.keys() == space.genes.keys()
        for name, gene in space.genes.items():
            assert gene._contains(gene.to_internal_repr(genome[name])), name
    assert len({space.express(genome).digest for _, genome in found}) == len(found)


def stored(parent):
    from safetensors.torch import load_file

    return load_file(f"{parent.source}/model.safetensors")


@pytest.mark.parametrize(("name", "base"), [("linear", "base"), ("linear", None), ("own ends", "base")])
def test_a_parent_alone_is_that_parent_to_the_bit(name, base, family, merge):
    torch = pytest.importorskip("torch")
    settings = {**SPACES, **BASELESS}[name] if base is None else SPACES[name]
    space = space_of(settings, base, parents=family)
    found = dict(seeds(space))
    for parent in NAMES:
        merged = merge(space.express(found[f"parent {parent}"]))
        original = stored(family[parent])
        assert merged.keys() == original.keys()
        assert all(torch.equal(merged[n], original[n]) for n in original), parent


@pytest.mark.parametrize("methods", [TASK_VECTORS, ("dare_ties", "ties"), ("slerp",), ("nuslerp",)], ids=str)
def test_a_parent_alone_is_that_parent_up_to_rounding_where_only_deltas_are_added(methods, family, merge):
    torch = pytest.importorskip("torch")
    space = space_of({"methods": methods, "parents": "subset"}, parents=family)
    found = dict(seeds(space))
    for parent in NAMES[methods == ("nuslerp",) :]:  # which has no word for its own base
        merged = merge(space.express(found[f"parent {parent}"]))
        for name, tensor in stored(family[parent]).items():
            torch.testing.assert_close(merged[name], tensor)


@pytest.mark.parametrize(
    ("methods", "over"),
    [(("linear",), NAMES), (("ties", "linear"), NAMES), (("task_arithmetic",), ("math", "lang"))],
    ids=str,
)
def test_the_uniform_average_is_the_average(methods, over, family, merge):
    """Of all parents; of the fine-tuned ones where the base is set apart."""
    torch = pytest.importorskip("torch")
    space = space_of({"methods": methods}, parents=family)
    merged = merge(space.express(dict(seeds(space))["uniform average"]))
    models = [stored(family[name]) for name in over]
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, sum(model[name] for model in models) / len(models))


def test_seeds_that_the_ranges_exclude_are_left_out():
    def labels(**settings):
        return {label for label, _ in seeds(space_of(settings))}

    assert labels(methods=("linear",), weight=(0.1, 0.8)) == {"linear defaults"}
    assert labels(methods=("ties",), density=(0.1, 0.5)) == {"ties defaults"}
    narrow = labels(methods=("task_arithmetic",), weight=(0.2, 0.9))
    assert "uniform average" in narrow
    assert not [label for label in narrow if label.startswith("parent")]


def test_the_start_of_cmaes_names_every_numeric_gene_within_its_range(space):
    first = start(space)
    numeric = {n for n, gene in space.genes.items() if not isinstance(gene, CategoricalDistribution)}
    assert first.keys() == numeric
    assert all(space.genes[n].low <= value <= space.genes[n].high for n, value in first.items())


def test_the_pools_seed_and_dtype_reach_every_recipe():
    space = space_of(SPACES["all methods"])
    pool = replace(space.pool, seed=99, dtype="bfloat16")
    recipe = WeightSpace(space._plan, pool).express(seeds(space)[0][1])
    assert (recipe.seed, recipe.dtype) == (99, "bfloat16")


# -- parents that are not alike, and parameters that are held


def apart(settings, base="base", names=NAMES):
    """A space over parents whose configs or tokenizers differ."""
    pool = {name: Parent(f"digest of {name}", f"/models/{name}") for name in names}
    depths = dict.fromkeys(pool, 4)
    return WeightSpace(WeightsPlan(**settings), Pool(pool, base, depths, PARTS, "float32", 7, alike=False))


def test_every_recipe_has_the_config_that_candidates_are_scored_with():
    """A recipe has config and tokenizer from its base, so that one must be the live model's."""
    space = apart({"methods": [m for m in ALL if m not in ("nuslerp",)], "parents": "subset"})
    rng = random.Random(12)
    for _ in range(300):
        assert space.express(draw(space, rng)).base.source == "/models/base"
    assert space.pairs == ["base+math", "base+lang"]


@pytest.mark.parametrize(
    ("settings", "base", "words"),
    [
        ({"methods": ("ties",), "base": "any"}, "base", r"set space\.weights\.base to fixed"),
        ({"methods": ("nuslerp",)}, None, "add a base"),
        ({"methods": ("multislerp",)}, None, "add a base"),
    ],
)
def test_recipes_with_anothers_config_are_refused(settings, base, words):
    with pytest.raises(PlanError, match=words):
        apart(settings, base)


def test_two_parents_of_multislerp_are_both_merged():
    """With one of them as base nothing but the other would be left, whatever the weights."""
    space = space_of({"methods": ("multislerp",)}, base="math", names=("math", "lang"))
    recipe = space.express(dict(seeds(space))["multislerp defaults"])
    assert recipe.base is None
    assert all(source.parameters for source in recipe.slices[0].sources)


def test_a_base_that_the_method_does_not_take_is_idle():
    space = space_of({"methods": ("linear", "task_arithmetic"), "base": "any"})
    genome = space.defaults("linear")
    assert "base" not in space.active(genome)
    assert "base" in space.active(genome | {"method": "task_arithmetic"})


def test_seeds_are_what_they_are_called_whatever_the_plan_holds():
    scaled = {label for label, _ in seeds(space_of({"methods": ("task_arithmetic",), "lambda": 0.8}))}
    assert scaled == {"task_arithmetic defaults"}
    space = space_of({"methods": ("linear",), "normalize": False})
    uniform = space.express(dict(seeds(space))["uniform average"])
    assert [own["weight"] for own in settings_in(uniform)] == [pytest.approx(1 / 3, abs=1e-4)] * 3


def test_model_stock_needs_two_parents_beside_the_base():
    with pytest.raises(PlanError, match="'model_stock' needs 2 parents besides the base"):
        space_of({"methods": ("model_stock",)}, names=("base", "math"))

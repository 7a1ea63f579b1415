"""The table of merge methods against mergekit's own registry, and the random ones against their draws."""

import pytest

torch = pytest.importorskip("torch")
merge_methods = pytest.importorskip("mergekit.merge_methods")

from example_recipes import recipe_of  # noqa: E402
from mergekit.merge_methods.base import BasePolicy, ParameterScope  # noqa: E402

from recipesearch.merging.materialize import merger  # noqa: E402
from recipesearch.recipe.methods import METHODS  # noqa: E402

BASES = {
    "required": BasePolicy.REQUIRED,
    "optional": BasePolicy.OPTIONAL,
    "either": BasePolicy.REQUIRED,  # one of the two inputs
    "ignored": BasePolicy.IGNORED,
}
# Larger than arcee_fusion's sample of a million entries, from which on it draws.
LARGE = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 2**15 + 8}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.fixture
def spec(method):
    return merge_methods.get(method.name).spec


def test_the_table_has_every_method_that_mergekit_registers():
    assert set(METHODS) == {method.spec.name for method in merge_methods.registered_methods()}
    assert len(METHODS) == 20


def test_the_accepted_parameters_are_those_that_mergekit_reads(method, spec):
    assert method.accepts == {parameter.name for parameter in spec.parameters}


def test_the_searched_parameters_exist_in_their_scopes(method, spec):
    scopes = {parameter.name: parameter.scope for parameter in spec.parameters}
    for parameter in method.parameters:
        shared = scopes[parameter.name] == ParameterScope.SHARED
        assert (parameter.scope == "shared") == shared, parameter.name


def test_every_parameter_that_mergekit_requires_is_searched(method, spec):
    required = {parameter.name for parameter in spec.parameters if parameter.required}
    assert required <= {parameter.name for parameter in method.parameters}


def test_what_is_not_searched_has_a_default(method, spec):
    """So that a study file need not say it."""
    searched = {parameter.name for parameter in method.parameters}
    assert not any(p.required for p in spec.parameters if p.name not in searched)


def test_the_base_policy_is_mergekits(method, spec):
    assert spec.contract.base == BASES[method.base]
    if method.base in ("required", "optional"):  # the base has no parameters of its own
        assert all(p.scope == ParameterScope.NON_BASE for p in spec.input_parameters)


def test_the_number_of_parents_is_mergekits(method, spec):
    for baseless in (True, False) if method.base == "optional" else (False,):
        apart = method.base == "required" or (method.base == "optional" and not baseless)
        base = None if method.base == "ignored" or baseless else 0
        for count in (1, 2, 3, 6):
            ids = list(range(count + apart))
            if method.fewest <= count <= (method.most or count):
                spec.contract.validate_ids(ids, base)
            elif method.name != "multislerp":  # takes one alone, and returns it
                with pytest.raises(ValueError, match=r".+"):
                    spec.contract.validate_ids(ids, base)


def test_parameters_that_share_a_gene_are_searched_alike():
    by_gene = {}
    for method in METHODS.values():
        for p in method.parameters:
            searched = (p.low, p.high, p.log, p.per_place, p.ceiling)
            assert by_gene.setdefault(p.gene, searched) == searched, (method.name, p.gene)


def test_defaults_and_ranges_are_what_mergekit_takes(method, spec):
    known = {parameter.name: parameter for parameter in spec.parameters}
    for parameter in method.parameters:
        assert parameter.low <= parameter.default <= parameter.high
        assert known[parameter.name].validate(parameter.default) == parameter.default


def test_the_seed_changes_tensors_exactly_where_the_table_says_random(method, random_llama):
    sizes = LARGE if method.name == "arcee_fusion" else {}
    parents = [random_llama(seed, **sizes) for seed in range(3)]

    def merged(seed):
        recipe = recipe_of(method.name, parents, seed=seed)
        return {name: tensor.clone() for name, tensor in merger(parents).stream(recipe)}

    one, again, other = merged(1), merged(1), merged(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert (not all(torch.equal(one[name], other[name]) for name in one)) == method.random

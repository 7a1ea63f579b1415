"""The table of merge methods against mergekit's own registry, and the random ones against their draws."""

import pytest

torch = pytest.importorskip("torch")
merge_methods = pytest.importorskip("mergekit.merge_methods")

from mergekit.merge_methods.base import BasePolicy, ParameterScope  # noqa: E402

from recipesearch.merging.materialize import merger  # noqa: E402
from recipesearch.methods import METHODS  # noqa: E402
from recipesearch.recipe import Recipe, Slice, Source, freeze  # noqa: E402

BASES = {
    "required": {BasePolicy.REQUIRED},
    "either": {BasePolicy.REQUIRED},  # one of the two inputs
    "ignored": {BasePolicy.IGNORED},
}
LAYERS = 2


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.fixture
def spec(method):
    return merge_methods.get(method.name).spec


def test_the_accepted_parameters_are_those_that_mergekit_reads(method, spec):
    assert method.accepts == {parameter.name for parameter in spec.parameters}


def test_the_searched_parameters_exist_in_their_scopes(method, spec):
    scopes = {parameter.name: parameter.scope for parameter in spec.parameters}
    for parameter in method.parameters:
        shared = scopes[parameter.name] == ParameterScope.SHARED
        assert parameter.scope == ("shared" if shared else "parent"), parameter.name


def test_every_parameter_that_mergekit_requires_is_searched(method, spec):
    required = {parameter.name for parameter in spec.parameters if parameter.required}
    assert required <= {parameter.name for parameter in method.parameters}


def test_the_base_policy_is_mergekits(method, spec):
    assert spec.contract.base in BASES[method.base]
    if method.base == "required":  # and the base has no parameters of its own
        assert all(p.scope == ParameterScope.NON_BASE for p in spec.input_parameters)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_number_of_parents_is_mergekits(count, method, spec):
    ids = list(range(count + (method.base == "required")))
    allowed = method.parents is None or method.parents == count
    base = None if method.base == "ignored" else 0
    if allowed:
        spec.contract.validate_ids(ids, base)
    else:
        with pytest.raises(ValueError, match=r".+"):
            spec.contract.validate_ids(ids, base)


def test_defaults_and_ranges_are_what_mergekit_takes(method, spec):
    known = {parameter.name: parameter for parameter in spec.parameters}
    for parameter in method.parameters:
        assert parameter.low <= parameter.default <= parameter.high
        assert known[parameter.name].validate(parameter.default) == parameter.default


def recipe(method, parents, seed):
    values = {"weight": 0.6, "density": 0.5, "gamma": 0.05, "epsilon": 0.2}
    own = freeze({p.name: values[p.name] for p in method.parameters if p.scope == "parent"})
    shared = freeze({"t": 0.4} if method.name == "slerp" else {})
    base, *others = parents
    base_own = own if method.base == "ignored" else ()
    chosen = others[: method.parents - 1] if method.parents else others
    sources = (Source(base, None, base_own), *(Source(parent, None, own) for parent in chosen))
    return Recipe(method.name, (Slice(sources),), base, shared, dtype="float32", seed=seed)


def test_the_seed_changes_tensors_exactly_where_the_table_says_random(method, random_llama):
    parents = [random_llama(seed) for seed in range(3)]

    def merged(seed):
        return {n: t.clone() for n, t in merger(parents).stream(recipe(method, parents, seed))}

    one, again, other = merged(1), merged(1), merged(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert (not all(torch.equal(one[name], other[name]) for name in one)) == method.random

"""A recipe by any merge method of the table, its parameters in any of the forms that mergekit reads."""

from recipesearch.recipe import Recipe, Slice, Source, freeze
from recipesearch.recipe.methods import METHODS

# By gene, in (plain numbers, filters, gradients, gradients inside filters)
FORMS = ("plain", "filters", "gradients", "both")
_WEIGHT = (
    0.6,
    [{"filter": "self_attn", "value": 0.2}, {"filter": "layers.1.", "value": 0.9}, {"value": 0.5}],
    [0.1, 0.9, 0.4],
    [{"filter": "self_attn", "value": [0.2, 0.8]}, {"filter": "lm_head", "value": 0.9}, {"value": 0.5}],
)
_SHARE = (
    0.3,
    [{"filter": "mlp", "value": 0.9}, {"filter": "embed", "value": 0}, {"value": 0.4}],
    [0, 1, 0.25],
    [{"filter": "mlp", "value": [0.9, 0.1]}, {"value": 0.4}],
)
_STEP = (
    0.01,
    [{"filter": "mlp", "value": 0.02}, {"value": 0.001}],
    [0.001, 0.03, 0.01],
    [{"filter": "mlp", "value": [0.03, 0.002]}, {"value": 0.01}],
)
VALUES = {
    "weight": _WEIGHT,
    "scale": _WEIGHT,
    "t": _SHARE,
    "step": _STEP,
    "threshold": _STEP,
    "density": (
        0.5,
        [{"filter": "mlp", "value": 0.4}, {"value": 0.8}],
        [0.4, 0.7],
        [{"filter": "mlp", "value": [0.4, 0.7]}, {"value": 0.6}],
    ),
    "select_topk": _SHARE,
    "r": _SHARE,
    "alpha": _SHARE,
    "gamma": (0.05,) * 4,
    "epsilon": (0.15,) * 4,
    "lambda": (1.1,) * 4,
}


def settings_of(method, form="plain", place=0):
    """(one parent's parameters, the shared ones) in a form; ``place`` tells the parents apart."""
    own, shared = {}, {}
    for parameter in METHODS[method].parameters:
        ratio = parameter.scope == "ratio"
        value = VALUES["weight" if ratio else parameter.gene][FORMS.index(form)]
        if place and form != "filters" and parameter.name == "weight":
            value = 0.3
        (shared if parameter.scope == "shared" else own)[parameter.name] = value
    return freeze(own), freeze(shared)


def takes(method, parents, baseless=False):
    """(the parents that a recipe of the method can have, the base first; how many have no weights)."""
    row = METHODS[method]
    apart = row.base == "required" or (row.base == "optional" and not baseless)
    start = 1 if row.base == "optional" and baseless else 0
    count = None if row.most is None else start + row.most + apart
    return parents[start:count], int(apart or row.base == "either")


def recipe_of(method, parents, form="plain", dtype="float32", layers=None, seed=5, baseless=False, **keys):
    """A recipe over (base, one, two): ``layers`` gives each slice's layer ranges, by parent."""
    inputs, bare = takes(method, parents, baseless)
    slices = tuple(
        Slice(
            tuple(
                Source(parent, ranges[place], () if place < bare else settings_of(method, form, place)[0])
                for place, parent in enumerate(inputs)
            )
        )
        for ranges in layers or ((None,) * len(inputs),)
    )
    base = None if baseless else parents[0]
    return Recipe(method, slices, base, settings_of(method, form)[1], dtype=dtype, seed=seed, **keys)

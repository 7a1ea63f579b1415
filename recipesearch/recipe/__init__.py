"""Recipe: a merge as immutable data. Light: opens no model.

recipe.py         Parent and Recipe, each with a digest
mergekit_yaml.py  recipes as mergekit YAML, in both directions
methods.py        the table of merge methods: everything that differs between methods
architectures.py  which tensors of a layer write to the residual stream, by architecture
hosting.py        pads short paths to the depth of a live model with layers that do nothing
shares.py         each parent's share of a recipe
"""

from .recipe import (
    Conditional,
    Parameters,
    Parent,
    Recipe,
    Scalar,
    Setting,
    Slice,
    Source,
    Tokenizer,
    TokenizerFolder,
    TokenRow,
    freeze,
    thaw,
)

__all__ = [
    "Conditional",
    "Parameters",
    "Parent",
    "Recipe",
    "Scalar",
    "Setting",
    "Slice",
    "Source",
    "TokenRow",
    "Tokenizer",
    "TokenizerFolder",
    "freeze",
    "thaw",
]

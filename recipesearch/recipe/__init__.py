"""Recipe: what a merge is, as immutable data. Light: opens no model.

recipe.py         Parent and Recipe, each with a digest
mergekit_yaml.py  recipes as mergekit YAML, both ways
methods.py        the table of merge methods: everything that differs between methods
architectures.py  which tensors of a layer write to the residual stream, by architecture
hosting.py        short paths in a deep live model, padded with layers that do nothing
shares.py         how much of a recipe each parent is
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

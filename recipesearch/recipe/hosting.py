"""Paths of different depth in one live model: short ones are filled up with layers that do nothing. Light.

A layer whose writers are zero adds zero to the residual stream, in every precision: the model of fewer
layers, exactly, at the price of the deep model's time. An engine whose depth is fixed once it stands (vLLM:
graphs, KV cache) hosts every path of a study this way.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import RefusedInput
from .architectures import RESIDUALS
from .recipe import Conditional, Parent, Recipe, Slice, Source


def hosted(recipe: Recipe, depth: int, architecture: str) -> Recipe:
    """The recipe filled up to ``depth`` layers: the same answers, from another digest.

    The filling comes last, before an empty slice that keeps the final norm and head with the parent that
    they were from. Raises RefusedInput for a deeper recipe, for a method without ``scale``, and for an
    architecture whose layers are not known to become identities.
    """
    path = recipe.path or ()
    if len(path) == depth:
        return recipe
    if not path or len(path) > depth:
        raise RefusedInput(f"the live model has {depth} layers, too few for the recipe's {len(path)}")
    if recipe.method != "passthrough":  # others have no scale, and mergekit would ignore it in silence
        raise RefusedInput(
            f"the live model has {depth} layers, and a {recipe.method} recipe of {len(path)} cannot be "
            "filled up: only passthrough can"
        )
    part, layer = path[-1]
    last = part.sources[0]
    scale = tuple(Conditional(0.0, writer) for writer in _writers(architecture))
    filling = Slice((Source(last.parent, (layer, layer + 1), (("scale", scale),)),))
    end = Slice((Source(recipe.slices[-1].sources[0].parent, (0, 0)),))
    return replace(recipe, slices=(*recipe.slices, *[filling] * (depth - len(path)), end))


def deep(parent: Parent, layers: int, depth: int, architecture: str, dtype: str) -> Recipe:
    """One parent of ``layers`` layers, cut or filled up to ``depth``: what a deep engine starts from."""
    source = Source(parent, (0, min(layers, depth)))
    whole = Recipe("passthrough", (Slice((source,)),), parent, dtype=dtype)
    return hosted(whole, depth, architecture)


def require_hostable(architecture: str) -> None:
    """Raises RefusedInput unless a deep engine can host short paths of this architecture."""
    _writers(architecture)


def _writers(architecture: str) -> tuple[str, ...]:
    if architecture not in RESIDUALS:
        raise RefusedInput(
            f"vLLM hosts paths of different depth by layers that do nothing, and {architecture} is not known "
            f"to allow them (it is not one of {', '.join(RESIDUALS)}): set engine.kind to transformers"
        )
    return RESIDUALS[architecture].writers

"""Paths of different depth in one live model: short paths are padded with layers that do nothing. Light.

A layer whose writers are zero adds zero to the residual stream, in every precision. The padded model
therefore equals the model with fewer layers exactly, but takes the time of the deeper one. An engine whose
depth is fixed when it starts (vLLM: graphs, KV cache) runs every path of a study this way.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import RefusedInput
from .architectures import RESIDUALS
from .recipe import Conditional, Parent, Recipe, Slice, Source


def hosted(recipe: Recipe, depth: int, architecture: str) -> Recipe:
    """The recipe padded to ``depth`` layers: the same answers, under another digest.

    The padding follows the last layer. An empty slice at the end keeps the final norm and head with the
    parent that they came from. Raises RefusedInput for a deeper recipe, for a method without ``scale``, and
    for an architecture whose layers are not known to become identities.
    """
    path = recipe.path or ()
    if len(path) == depth:
        return recipe
    if not path or len(path) > depth:
        raise RefusedInput(f"the live model has {depth} layers, too few for the recipe's {len(path)}")
    if recipe.method != "passthrough":  # other methods have no scale: mergekit would ignore it silently
        raise RefusedInput(
            f"the live model has {depth} layers, and a {recipe.method} recipe of {len(path)} layers cannot "
            "be padded to that depth: use passthrough"
        )
    part, layer = path[-1]
    last = part.sources[0]
    scale = tuple(Conditional(0.0, writer) for writer in _writers(architecture))
    padding = Slice((Source(last.parent, (layer, layer + 1), (("scale", scale),)),))
    end = Slice((Source(recipe.slices[-1].sources[0].parent, (0, 0)),))
    return replace(recipe, slices=(*recipe.slices, *[padding] * (depth - len(path)), end))


def padded(parent: Parent, layers: int, depth: int, architecture: str, dtype: str) -> Recipe:
    """One parent of ``layers`` layers, cut or padded to ``depth`` for an engine of fixed depth."""
    source = Source(parent, (0, min(layers, depth)))
    whole = Recipe("passthrough", (Slice((source,)),), parent, dtype=dtype)
    return hosted(whole, depth, architecture)


def require_hostable(architecture: str) -> None:
    """Raises RefusedInput unless short paths of this architecture can be padded to a fixed depth."""
    _writers(architecture)


def _writers(architecture: str) -> tuple[str, ...]:
    if architecture not in RESIDUALS:
        raise RefusedInput(
            f"vLLM pads short paths with layers that do nothing, and {architecture} is not known to support "
            f"such layers (known: {', '.join(RESIDUALS)}): set engine.kind to transformers"
        )
    return RESIDUALS[architecture].writers

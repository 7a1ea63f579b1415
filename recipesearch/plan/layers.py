"""The layer space of a study file: which layers of which parents may follow each other."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from .section import BadKey, Range, Section

Donor = Literal["first", "path", "any"]

_LEAST = 0.001  # of W, which is written with four decimals


class LayersPlan(Section):
    """Paths through the parents' layers ("data-flow space" of Akiba et al., 2403.13187).

    ``encoding``: ``steps`` (at each depth, which parents' layers of that depth, and in which order),
    ``slots`` (the paper's: an indicator for each layer of each parent in each of ``repeats`` passes) or
    ``slices`` (up to ``slices`` runs of consecutive layers). ``repeats`` of steps is how many layers one
    depth may have. ``depth`` bounds a path's number of layers. ``scale`` is the range of W, what the stream
    is multiplied by before a layer: one for each place of the encoding, or for each ordered ``pair`` of
    layers. ``embed`` and ``head`` (with the final norm) come from the ``first`` parent, from the parent of
    the ``path``'s first and last layer, or from ``any``: then they are searched.
    """

    encoding: Literal["steps", "slots", "slices"] = "steps"
    depth: tuple[int, int]
    repeats: int = Field(default=2, ge=1, le=8)
    slices: int = Field(default=3, ge=1)
    scale: Range | None = None
    scale_by: Literal["place", "pair"] = "place"
    embed: Donor = "any"
    head: Donor = "any"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        fewest, most = self.depth
        if not 1 <= fewest <= most:
            raise BadKey("depth", f"give [fewest, most] layers, at least 1: not [{fewest}, {most}]")
        if self.scale is not None and not _LEAST <= self.scale[0] < self.scale[1]:
            raise BadKey(
                "scale", f"give a range [low, high] from {_LEAST} up: a norm hides a factor, but not a sign"
            )
        for key, encodings in (("slices", ("slices",)), ("repeats", ("slots", "steps"))):
            stated = getattr(self, key) != type(self).model_fields[key].default
            if stated and self.encoding not in encodings:
                raise BadKey(key, f"it belongs to encoding {' and '.join(encodings)}, not {self.encoding}")
        return self

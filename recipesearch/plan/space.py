"""The section ``space``: what may vary."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from .layers import LayersPlan
from .section import Section
from .weights import WeightsPlan


class SpacePlan(Section):
    """What may vary: the parents' weights, or which of their layers follow each other."""

    weights: WeightsPlan | None = None
    layers: LayersPlan | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.weights is None) == (self.layers is None):
            raise ValueError("give weights or layers; for one after the other, give eras")
        return self

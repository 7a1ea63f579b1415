"""The section ``space``: whether the search varies the parents' weights or the order of their layers."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from ..errors import nearest
from ..recipe.methods import METHODS, Method, Parameter
from .section import BadKey, Range, Section

Donor = Literal["first", "path", "any"]

_LEAST = 0.001  # lower bound of W, which recipes store with four decimals


class WeightsPlan(Section):
    """The weight space: the merge methods, and how finely their parameters vary.

    Besides the keys below, the section accepts the methods' parameters by name: a range to search instead of
    the table's range, or one fixed value.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    methods: tuple[str, ...] = Field(min_length=1)
    parents: Literal["all", "subset"] = "all"
    base: Literal["fixed", "any"] = "fixed"
    layer_groups: int = Field(default=1, ge=1)
    gradient: int | None = Field(default=None, ge=2)
    filters: tuple[str, ...] = ()
    own: tuple[Literal["embed", "head", "norm"], ...] = ()

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for method in methods:
            if method not in METHODS:
                raise ValueError(f"unknown merge method '{method}': {nearest(method, METHODS)}")
        return tuple(dict.fromkeys(methods))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gradient and self.layer_groups > 1:
            raise ValueError("gradient spans all layers: remove layer_groups or gradient")
        # Of all methods, so that a range may stay in the file when its method is removed.
        searched = {p.gene: p for method in METHODS.values() for p in method.parameters}
        held = {name for method in METHODS.values() for name in _held(method)}
        for name, value in self._given.items():
            if name in searched:
                _require_setting(searched[name], value)
            elif name not in held:
                known = [*type(self).model_fields, *searched, *held]
                raise BadKey(name, nearest(name, known), unknown=True)
            elif not isinstance(value, bool | int | float | str):
                raise BadKey(name, "this parameter cannot be searched; give one value")
        return self

    @property
    def _given(self) -> dict[str, Any]:
        return self.model_extra or {}

    def setting(self, parameter: Parameter) -> Range | float:
        """The range in which a parameter is searched, or its one fixed value."""
        value = self._given.get(parameter.gene, (parameter.low, parameter.high))
        return (float(value[0]), float(value[1])) if isinstance(value, list | tuple) else float(value)

    def constants(self, method: Method) -> dict[str, Any]:
        """The values that the study file sets for the method's parameters that cannot be searched."""
        held = _held(method)
        return {n: v for n, v in self._given.items() if n in held and not isinstance(v, list | tuple)}


class LayersPlan(Section):
    """Paths through the parents' layers ("data-flow space" of Akiba et al., 2403.13187).

    ``encoding`` is one of ``steps`` (for each depth, the parents whose layer of that depth is used, and their
    order; ``repeats`` is the maximum number of layers at one depth), ``slots`` (the paper's encoding: an
    indicator for each layer of each parent in each of ``repeats`` passes) and ``slices`` (up to ``slices``
    runs of consecutive layers). ``depth`` bounds the number of layers of a path. ``scale`` is the range of W,
    the factor on the residual stream before a layer: one for each place of the encoding, or one for each
    ordered ``pair`` of layers. ``embed`` and ``head`` (with the final norm) come from the ``first`` parent or
    from the parent of the ``path``'s first or last layer; with ``any`` they are searched.
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
            raise BadKey(
                "depth", f"[{fewest}, {most}] is not a range of layers; give [fewest, most], at least 1"
            )
        if self.scale is not None and not _LEAST <= self.scale[0] < self.scale[1]:
            raise BadKey(
                "scale", f"give a range [low, high] with low at least {_LEAST}; W has to be positive"
            )
        for key, encodings in (("slices", ("slices",)), ("repeats", ("slots", "steps"))):
            stated = getattr(self, key) != type(self).model_fields[key].default
            if stated and self.encoding not in encodings:
                raise BadKey(
                    key, f"only for encoding {' or '.join(encodings)}, not {self.encoding}; remove it"
                )
        return self


class SpacePlan(Section):
    """The search space: the parents' weights, or the order of their layers."""

    weights: WeightsPlan | None = None
    layers: LayersPlan | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.weights is None) == (self.layers is None):
            raise ValueError("give weights or layers; to search both, one after the other, give eras")
        return self


def _held(method: Method) -> set[str]:
    """The parameters of a method that cannot be searched."""
    return set(method.accepts) - {parameter.name for parameter in method.parameters}


def _require_setting(parameter: Parameter, value: object) -> None:
    """Raises BadKey unless the value is a range or a number that the parameter accepts."""
    given = list(value) if isinstance(value, list | tuple) else [value, value]
    numbers = [n for n in given if isinstance(n, int | float) and math.isfinite(n)]
    problem = None
    if not len(numbers) == len(given) == 2 or isinstance(value, bool):
        problem = "give a range [low, high], or one fixed number"
    elif isinstance(value, list | tuple) and numbers[0] >= numbers[1]:
        problem = f"the lower bound {numbers[0]} is not below the upper bound {numbers[1]}"
    elif parameter.gene == "density" and not 0 < numbers[0] <= numbers[1] <= 1:
        problem = "a density is a share of the entries; give values above 0 and at most 1"
    elif parameter.log and numbers[0] <= 0:
        problem = "this parameter is searched on a log scale; give values above 0"
    elif parameter.ceiling and not parameter.low <= numbers[0] <= numbers[1] <= parameter.high:
        problem = f"a share of the range that density allows; give {parameter.low} to {parameter.high}"
    if problem:
        raise BadKey(parameter.gene, problem)

"""The weight space of a study file: methods, and how finely their parameters may differ."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from ..errors import nearest
from ..recipe.methods import METHODS, Method, Parameter
from .section import BadKey, Range, Section


class WeightsPlan(Section):
    """The weight space: which methods, and how finely their parameters may differ.

    Beside the keys below it takes the methods' parameters by name: a range to search instead of the table's,
    or one value to hold.
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
            raise ValueError("gradient spans all layers: drop layer_groups, or the gradient")
        # Of all methods: a range stays where it is when a method that it served is dropped.
        searched = {p.gene: p for method in METHODS.values() for p in method.parameters}
        held = {name for method in METHODS.values() for name in _held(method)}
        for name, value in self._given.items():
            if name in searched:
                _require_setting(searched[name], value)
            elif name not in held:
                known = [*type(self).model_fields, *searched, *held]
                raise BadKey(name, nearest(name, known), unknown=True)
            elif not isinstance(value, bool | int | float | str):
                raise BadKey(name, "it is not searched: give one value")
        return self

    @property
    def _given(self) -> dict[str, Any]:
        return self.model_extra or {}

    def setting(self, parameter: Parameter) -> Range | float:
        """The range to search a parameter in, or the one value it has."""
        value = self._given.get(parameter.gene, (parameter.low, parameter.high))
        return (float(value[0]), float(value[1])) if isinstance(value, list | tuple) else float(value)

    def constants(self, method: Method) -> dict[str, Any]:
        """The parameters that the study file holds at a value, of those that the method reads unsearched."""
        held = _held(method)
        return {n: v for n, v in self._given.items() if n in held and not isinstance(v, list | tuple)}


def _held(method: Method) -> set[str]:
    """The parameters of a method that are not searched."""
    return set(method.accepts) - {parameter.name for parameter in method.parameters}


def _require_setting(parameter: Parameter, value: object) -> None:
    """Raises unless the value is a range, or a number, that the parameter can take."""
    given = list(value) if isinstance(value, list | tuple) else [value, value]
    numbers = [n for n in given if isinstance(n, int | float) and math.isfinite(n)]
    problem = None
    if not len(numbers) == len(given) == 2 or isinstance(value, bool):
        problem = "give a range [low, high], or one number to hold"
    elif isinstance(value, list | tuple) and numbers[0] >= numbers[1]:
        problem = f"the lower bound {numbers[0]} is not below the upper bound {numbers[1]}"
    elif parameter.gene == "density" and not 0 < numbers[0] <= numbers[1] <= 1:
        problem = "a density is a share of the entries: above 0 and at most 1"
    elif parameter.log and numbers[0] <= 0:
        problem = "it is searched by orders of magnitude: above 0"
    elif parameter.ceiling and not parameter.low <= numbers[0] <= numbers[1] <= parameter.high:
        problem = f"it is a share of what the density allows: {parameter.low} to {parameter.high}"
    if problem:
        raise BadKey(parameter.gene, problem)

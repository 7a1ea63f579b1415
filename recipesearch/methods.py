"""The table of merge methods: what each one takes, and where a search may look.

One row per mergekit method. Everything that differs between methods is said here, so that the weight
space, the recipe digest and the checks are written once, from the table. Light on purpose: a test holds
the table against mergekit's own registry (``mergekit.merge_methods``, 0.1.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Scope = Literal["shared", "parent"]


@dataclass(frozen=True)
class Parameter:
    """One searched parameter of a merge method.

    ``scope`` is mergekit's: one value for the merge (``shared``) or one per parent (``parent``).
    ``per_layer_group`` says whether it also has a gene for each layer group and filter.
    ``ceiling`` couples it to the density: the gene is then a fraction, multiplied by ``ceiling(density)``,
    so that no genome can express a value that mergekit refuses.
    """

    name: str
    scope: Scope
    low: float
    high: float
    default: float
    per_layer_group: bool = False
    ceiling: Callable[[float], float] | None = None


@dataclass(frozen=True)
class Method:
    """One merge method.

    ``base``: ``required`` (the base is an input apart, task vectors are taken from it), ``either`` (one of
    the two inputs serves as base) or ``ignored`` (the base counts as any other input).
    ``parents``: the exact number of inputs, or None for any number.
    ``random``: draws random numbers, so a recipe of it is the same only with the same seed.
    ``accepts``: every parameter name that mergekit reads; it ignores others in silence, we refuse them.
    """

    name: str
    base: Literal["required", "either", "ignored"]
    parameters: tuple[Parameter, ...]
    accepts: frozenset[str]
    parents: int | None = None
    random: bool = False


_TASK_VECTOR = frozenset({"weight", "density", "lambda", "normalize", "rescale", "int8_mask"})


def _weight(default: float) -> Parameter:
    return Parameter("weight", "parent", 0.0, 1.5, default, per_layer_group=True)


def _density(default: float = 0.5) -> Parameter:
    return Parameter("density", "parent", 0.1, 1.0, default)


# breadcrumbs: with gamma >= 1 - density only the smallest entries survive (sparsify.magnitude_outliers).
_GAMMA = Parameter("gamma", "parent", 0.0, 0.9, 0.02, ceiling=lambda density: 1.0 - density)
# della: density +- epsilon must lie inside (0, 1) (sparsify.della_magprune raises otherwise).
_EPSILON = Parameter("epsilon", "parent", 0.0, 0.95, 0.3, ceiling=lambda density: min(density, 1.0 - density))

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("linear", "ignored", (_weight(1.0),), frozenset({"weight", "normalize"})),
        Method(
            "slerp",
            "either",
            (Parameter("t", "shared", 0.0, 1.0, 0.5, per_layer_group=True),),
            frozenset({"t"}),
            parents=2,
        ),
        Method("task_arithmetic", "required", (_weight(0.5),), _TASK_VECTOR),
        Method("ties", "required", (_weight(1.0), _density()), _TASK_VECTOR),
        Method("dare_ties", "required", (_weight(0.5), _density()), _TASK_VECTOR, random=True),
        Method("dare_linear", "required", (_weight(0.5), _density()), _TASK_VECTOR, random=True),
        Method(
            "della",
            "required",
            (_weight(1.0), _density(), _EPSILON),
            _TASK_VECTOR | {"epsilon"},
            random=True,
        ),
        Method("breadcrumbs", "required", (_weight(0.5), _density(0.9), _GAMMA), _TASK_VECTOR | {"gamma"}),
    )
}

"""The table of merge methods: the inputs of each method and the search range of each parameter.

One row per method of mergekit 0.1.5. The table contains everything that differs between methods, so the
weight space, the recipe digest and the checks are written once, from the table. It imports nothing heavy. A
test compares it with mergekit's own registry (``mergekit.merge_methods``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Base = Literal["required", "optional", "either", "ignored"]
Scope = Literal["shared", "parent", "ratio", "sole"]


@dataclass(frozen=True)
class Parameter:
    """One searched parameter of a merge method.

    - ``scope``: ``shared`` is one gene for the merge, ``parent`` one gene for each parent, ``sole`` one gene
      for the only parent. ``ratio`` is one gene t for the weights 1 - t and t of two parents, where only the
      ratio of the weights matters.
    - ``low`` and ``high``: the default search range.
    - ``gene``: the gene's name. Parameters with the same meaning share a gene.
    - ``per_place``: each layer group and filter has its own gene.
    - ``log``: the range is searched on a log scale.
    - ``ceiling`` couples the parameter to the density. The gene is a fraction that is multiplied by
      ``ceiling(density)``, so no genome can express a value that mergekit rejects.
    """

    name: str
    scope: Scope
    low: float
    high: float
    default: float
    gene: str
    per_place: bool = False
    log: bool = False
    ceiling: Callable[[float], float] | None = None


@dataclass(frozen=True)
class Method:
    """One merge method.

    - ``base``: ``required`` (a separate input that task vectors are taken from), ``optional`` (a separate
      input if there is a base), ``either`` (one of the two inputs serves as base) or ``ignored`` (the base
      counts like any other input).
    - ``accepts``: every parameter name that mergekit reads. mergekit ignores other names silently;
      recipesearch rejects them.
    - ``fewest`` and ``most`` (None: no limit): the number of parents, not counting a separate base.
    - ``ordered``: two parents are not interchangeable.
    - ``random``: the method draws random numbers, so its result depends on the seed.
    - ``additive``: a weighted sum, so a parent of weight zero adds nothing.
    - ``normalised``: weights are divided by their sum, which therefore must not be zero.
    """

    name: str
    base: Base
    parameters: tuple[Parameter, ...]
    accepts: frozenset[str]
    fewest: int = 1
    most: int | None = None
    ordered: bool = False
    random: bool = False
    additive: bool = False
    normalised: bool = False

    @cached_property
    def genes(self) -> frozenset[str]:
        """The names of the genes that the method reads."""
        return frozenset(parameter.gene for parameter in self.parameters)

    def has(self, gene: str) -> bool:
        """Whether the method reads a gene."""
        return gene in self.genes

    @property
    def averages(self) -> bool:
        """Whether weights are divided by their sum by default. Task vectors are then scaled by lambda."""
        return self.normalised or self.has("lambda")


_TASK_VECTOR = frozenset({"weight", "density", "lambda", "normalize", "rescale", "int8_mask"})


def _weight(default: float) -> Parameter:
    return Parameter("weight", "parent", 0.0, 1.5, default, "weight", per_place=True)


def _density(default: float = 0.5) -> Parameter:
    return Parameter("density", "parent", 0.1, 1.0, default, "density")


# The position on a path from one model to the other: slerp's t, and nuslerp's weights 1 - t and t.
_T = Parameter("t", "shared", 0.0, 1.0, 0.5, "t", per_place=True)
_RATIO = Parameter("weight", "ratio", 0.0, 1.0, 0.5, "t", per_place=True)
# Scales the sum of task vectors. With unnormalised weights it would be redundant.
_LAMBDA = Parameter("lambda", "shared", 0.5, 1.5, 1.0, "lambda")
# breadcrumbs: with gamma >= 1 - density only the smallest entries survive (sparsify.magnitude_outliers).
_GAMMA = Parameter("gamma", "parent", 0.0, 0.9, 0.02, "gamma", ceiling=lambda density: 1.0 - density)
# della: density +- epsilon must lie inside (0, 1), otherwise sparsify.della_magprune raises.
_EPSILON = Parameter(
    "epsilon", "parent", 0.0, 0.95, 0.3, "epsilon", ceiling=lambda density: min(density, 1.0 - density)
)
# ram: entries of a task vector smaller than this count as zero.
_THRESHOLD = Parameter("epsilon", "shared", 1e-6, 1e-4, 1e-5, "threshold", log=True)


def _task_vectors(
    name: str, *parameters: Parameter, accepts: frozenset[str] = _TASK_VECTOR, random: bool = False
) -> Method:
    """A row for mergekit's ``GeneralizedTaskArithmeticMerge`` or one of its variants."""
    return Method(name, "required", parameters, accepts, random=random, additive=True)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "linear",
            "ignored",
            (_weight(1.0),),
            frozenset({"weight", "normalize"}),
            additive=True,
            normalised=True,
        ),
        Method("slerp", "either", (_T,), frozenset({"t"}), fewest=2, most=2),
        Method(
            "nuslerp",
            "optional",
            (_RATIO,),
            frozenset({"weight", "nuslerp_flatten", "nuslerp_row_wise"}),
            fewest=2,
            most=2,
        ),
        Method(
            "multislerp",
            "optional",
            (_weight(1.0),),
            frozenset({"weight", "normalize_weights", "eps"}),
            fewest=2,  # with one input the result is that input, whatever the base
            normalised=True,
        ),
        Method("karcher", "ignored", (), frozenset({"max_iter", "tol"})),
        _task_vectors("task_arithmetic", _weight(0.5)),
        _task_vectors("ties", _weight(1.0), _density(), _LAMBDA),
        _task_vectors("dare_ties", _weight(0.5), _density(), random=True),
        _task_vectors("dare_linear", _weight(0.5), _density(), random=True),
        _task_vectors("breadcrumbs", _weight(0.5), _density(0.9), _GAMMA, accepts=_TASK_VECTOR | {"gamma"}),
        _task_vectors(
            "breadcrumbs_ties", _weight(0.5), _density(0.9), _GAMMA, accepts=_TASK_VECTOR | {"gamma"}
        ),
        _task_vectors(
            "della",
            _weight(1.0),
            _density(),
            _EPSILON,
            _LAMBDA,
            accepts=_TASK_VECTOR | {"epsilon"},
            random=True,
        ),
        _task_vectors(
            "della_linear",
            _weight(0.5),
            _density(),
            _EPSILON,
            accepts=_TASK_VECTOR | {"epsilon"},
            random=True,
        ),
        Method("model_stock", "required", (), frozenset({"filter_wise"}), fewest=2),
        Method(
            "sce",
            "required",
            (Parameter("select_topk", "shared", 0.05, 1.0, 1.0, "select_topk"),),
            frozenset({"int8_mask", "select_topk"}),
        ),
        Method("ram", "required", (_THRESHOLD,), frozenset({"epsilon"})),
        Method(
            "ramplus_tl",
            "required",
            (
                Parameter("r", "shared", 0.0, 1.0, 0.1, "r"),
                Parameter("alpha", "shared", 0.0, 1.0, 0.2, "alpha"),
                _THRESHOLD,
            ),
            frozenset({"r", "alpha", "epsilon"}),
        ),
        # Entries that differ by less than t come from the second model; others move from the first by t.
        Method(
            "nearswap",
            "either",
            (Parameter("t", "shared", 1e-5, 1e-2, 1e-4, "step", per_place=True, log=True),),
            frozenset({"t"}),
            fewest=2,
            most=2,
            ordered=True,
        ),
        # Its thresholds are quantiles, estimated from a random sample if a tensor exceeds a million entries.
        Method("arcee_fusion", "either", (), frozenset(), fewest=2, most=2, ordered=True, random=True),
        # Each layer group takes its layers from one parent.
        Method(
            "passthrough",
            "ignored",
            (Parameter("scale", "sole", 0.5, 1.5, 1.0, "scale", per_place=True),),
            frozenset({"scale"}),
            most=1,
        ),
    )
}

"""The genomes that a search starts from.

Every space: each parent alone. Weight space: the uniform average and each method's defaults. Layer space:
splices and stacks of two parents.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import FloatDistribution

from ..errors import PlanError
from ..recipe.methods import METHODS
from .kinds import Space
from .layers import LayerSpace
from .weights import WeightSpace

Labelled = tuple[str, dict[str, Any]]


def seeds(space: Space) -> list[Labelled]:
    """Labelled complete genomes with distinct recipes. Seeds outside the plan's ranges are left out."""
    candidates: list[tuple[str, dict[str, Any] | None]] = []
    if isinstance(space, WeightSpace):
        candidates += [(parent_label(name), _alone(space, name)) for name in space.pool.parents]
        candidates.append(("uniform average", _uniform(space)))
        candidates += [(f"{method} defaults", space.defaults(method)) for method in space.methods]
    else:
        candidates += [(parent_label(name), _whole(space, name)) for name in space.pool.parents]
        pairs = itertools.permutations(space.pool.parents, 2)
        for one, other in pairs:
            candidates.append((f"splice {one}+{other}", _splice(space, one, other)))
            candidates.append((f"stack {one}+{other}", _stack(space, one, other)))
    return distinct(space, [(label, genome) for label, genome in candidates if genome is not None])


def distinct(space: Space, labelled: Sequence[Labelled]) -> list[Labelled]:
    """The genomes in order, without genomes that express the recipe of an earlier one."""
    found: dict[str, Labelled] = {}
    for label, genome in labelled:
        found.setdefault(space.express(genome).digest, (label, genome))
    return list(found.values())


def average(space: WeightSpace, names: Sequence[str]) -> dict[str, Any] | None:
    """The plain average of some of the parents; None if no method and range can express it."""
    for method in space.methods:
        row = METHODS[method]
        if row.additive and row.base != "required" and not _scaled(space, method):
            weights = {f"weight.{name}": float(name in names) for name in space.pool.parents}
            return _at(space, method, {**weights, "density": 1.0})
    return None


def parent_label(name: str) -> str:
    """The label of the seed that is one parent alone."""
    return f"parent {name}"


def start(space: Space) -> dict[str, float]:
    """The numeric genes of CMA-ES's first mean.

    Weight space: the uniform average, or the first method's defaults if no genome expresses the average.
    Layer space: the first seed, or the middle of each range if there are no seeds.
    """
    if isinstance(space, WeightSpace):
        genome = _uniform(space) or space.defaults(space.methods[0])
    else:
        middle = {n: (g.low + g.high) / 2 for n, g in space.genes.items() if isinstance(g, FloatDistribution)}
        genome = next((genome for _, genome in seeds(space)), middle)
    return {name: value for name, value in genome.items() if isinstance(value, float)}


def _whole(space: LayerSpace, name: str) -> dict[str, Any] | None:
    """All layers of one parent, its embeddings and its head."""
    return space.genome([(name, layer) for layer in range(space.pool.depths[name])])


def _splice(space: LayerSpace, one: str, other: str) -> dict[str, Any] | None:
    """The lower half of one parent and the upper half of another: a crossover at one point."""
    depths = space.pool.depths
    lower = [(one, layer) for layer in range(depths[one] // 2)]
    return space.genome(lower + [(other, layer) for layer in range(depths[other] // 2, depths[other])])


def _stack(space: LayerSpace, one: str, other: str) -> dict[str, Any] | None:
    """The first three quarters of one parent and the last three quarters of another.

    Depth up-scaling as in SOLAR (2312.15166), with two models.
    """
    depths = space.pool.depths
    lower = [(one, layer) for layer in range(depths[one] * 3 // 4)]
    return space.genome(lower + [(other, layer) for layer in range(depths[other] // 4, depths[other])])


def _uniform(space: WeightSpace) -> dict[str, Any] | None:
    """The plain average, by ``linear`` or by task vectors of weight 1/k; None with other methods."""
    names = list(space.pool.parents)
    if "linear" in space.methods:
        share = 1.0 if space.constants("linear").get("normalize", True) else 1.0 / len(names)
        return _at(space, "linear", {f"weight.{name}": share for name in names})
    if (
        "task_arithmetic" in space.methods
        and space.pool.base is not None
        and not _scaled(space, "task_arithmetic")
    ):
        others = [name for name in names if name != space.pool.base]
        return _at(space, "task_arithmetic", {f"weight.{name}": 1.0 / len(others) for name in others})
    return None


def _alone(space: WeightSpace, parent: str) -> dict[str, Any] | None:
    """One parent, unmerged, by the first method that can express it; None if no method can."""
    for method in sorted(space.methods, key=_closeness):
        genome = _alone_by(space, method, parent)
        if genome is not None:
            return genome
    return None


def _closeness(method: str) -> int:
    """How closely a method reproduces one parent; lower is closer.

    0 is exact to the bit. The others are exact up to rounding: on a path, as a task vector, on a sphere.
    """
    row = METHODS[method]
    if method in ("passthrough", "linear"):
        return 0
    return 1 if method == "slerp" else 2 if row.base == "required" else 3


def _alone_by(space: WeightSpace, method: str, parent: str) -> dict[str, Any] | None:
    row = METHODS[method]
    if row.most == 1:
        only = {gene: parent for gene in space.genes if gene.startswith("only.")}
        return _at(space, method, {"scale": 1.0}, only)
    if row.most == 2:
        return _end_of_path(space, method, parent)
    if not row.additive or _scaled(space, method):
        return None
    weights = {f"weight.{name}": float(name == parent) for name in space.pool.parents}
    return _at(space, method, {**weights, "density": 1.0, "lambda": 1.0})


def _scaled(space: WeightSpace, method: str) -> bool:
    """Whether the plan scales the sum of task vectors. Then no weights express one parent or the average."""
    return bool(space.constants(method).get("lambda", 1.0) != 1.0)


def _end_of_path(space: WeightSpace, method: str, parent: str) -> dict[str, Any] | None:
    """The end of a path between two parents at which the merge is this parent.

    The pair must not contain a separate base.
    """
    if not any(p.gene == "t" for p in METHODS[method].parameters):
        return None
    base = space.pool.base
    if "base" in space.genes:
        base = next(name for name in space.pool.parents if name != parent)
    apart = METHODS[method].base == "optional" and len(space.pool.parents) > 2
    for pair in space.pairs:
        if parent in pair.split("+") and not (apart and base in pair.split("+")):
            end = float(pair.split("+")[1] == parent)
            return _at(space, method, {"t": end}, {"pair": pair, **({"base": base} if base else {})})
    return None


def _at(
    space: WeightSpace, method: str, numbers: Mapping[str, float], choices: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """The method's defaults with these choices and numbers; None if the plan's ranges exclude a number.

    ``numbers`` are keyed by gene, or by gene and owner. Numbers that the method does not read are ignored.
    """
    read = {parameter.gene for parameter in METHODS[method].parameters}
    wanted = {stem: value for stem, value in numbers.items() if stem.split(".")[0] in read}
    if not all(space.takes(stem, value) for stem, value in wanted.items()):
        return None
    genome = space.defaults(method)
    genome |= {gene: choice for gene, choice in (choices or {}).items() if gene in genome}
    for gene in genome:
        stem, _, rest = gene.partition(".")
        owned = f"{stem}.{rest.partition('.')[0]}"
        if stem in wanted or owned in wanted:
            genome[gene] = wanted.get(owned, wanted.get(stem))
    return genome


def require_parent_alone(space: Space, key: str) -> None:
    """Raises PlanError, naming the study file's ``key``, unless a parent alone is among the seeds: a bound
    relative to the parents needs one that is scored by itself."""
    labels = {label for label, _ in seeds(space)}
    if not any(parent_label(name) in labels for name in space.pool.parents):
        raise PlanError(
            f"{key}: no parent alone is a recipe of these methods and ranges, so none is scored; "
            "give a 'bound'"
        )

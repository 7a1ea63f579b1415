"""The genomes that a search starts from: each parent alone, the uniform average, each method's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..methods import METHODS
from .weights import WeightSpace

Labelled = tuple[str, dict[str, Any]]


def seeds(space: WeightSpace) -> list[Labelled]:
    """Labelled complete genomes, distinct as recipes. What the plan's ranges cannot express is left out."""
    candidates = [(parent_label(name), _alone(space, name)) for name in space.pool.parents]
    candidates.append(("uniform average", _uniform(space)))
    candidates += [(f"{method} defaults", space.defaults(method)) for method in space.methods]
    distinct: dict[str, Labelled] = {}
    for label, genome in candidates:
        if genome is not None:
            distinct.setdefault(space.express(genome).digest, (label, genome))
    return list(distinct.values())


def parent_label(name: str) -> str:
    """How the seed that is one parent alone is called."""
    return f"parent {name}"


def start(space: WeightSpace) -> dict[str, float]:
    """The numeric genes at the uniform average, else at the defaults: where CMA-ES puts its first mean."""
    genome = _uniform(space) or space.defaults(space.methods[0])
    return {name: value for name, value in genome.items() if isinstance(value, float)}


def _uniform(space: WeightSpace) -> dict[str, Any] | None:
    """The plain average, by ``linear`` or by task vectors of weight 1/k; None for other methods."""
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
    """One parent, unmerged, by the first method that can say so; None if none can."""
    for method in sorted(space.methods, key=_closeness):
        genome = _alone_by(space, method, parent)
        if genome is not None:
            return genome
    return None


def _closeness(method: str) -> int:
    """Exact to the bit, else up to rounding: along a path, as a task vector, on a sphere."""
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
    """Whether the plan scales the sum of task vectors: then no weights say one parent, or the average."""
    return bool(space.constants(method).get("lambda", 1.0) != 1.0)


def _end_of_path(space: WeightSpace, method: str, parent: str) -> dict[str, Any] | None:
    """The end of a path between two parents at which one of them stands alone; a base apart is neither."""
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
    """The method's defaults with these choices and, for what the method reads, these numbers: by gene or by
    gene and owner. None if the plan's ranges exclude one of them."""
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

"""The genomes that a search starts from: each parent alone, the uniform average, each method's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import FloatDistribution

from ..methods import METHODS
from .weights import WeightSpace

Labelled = tuple[str, dict[str, Any]]


def seeds(space: WeightSpace) -> list[Labelled]:
    """Labelled complete genomes, distinct as recipes. What the plan's ranges cannot express is left out."""
    candidates = [(f"parent {name}", _alone(space, name)) for name in space.pool.parents]
    candidates.append(("uniform average", _uniform(space)))
    candidates += [(f"{method} defaults", space.defaults(method)) for method in space.methods]
    distinct: dict[str, Labelled] = {}
    for label, genome in candidates:
        if genome is not None:
            distinct.setdefault(space.express(genome).digest, (label, genome))
    return list(distinct.values())


def start(space: WeightSpace) -> dict[str, float]:
    """The numeric genes at the uniform average, else at the defaults: where CMA-ES puts its first mean."""
    genome = _uniform(space) or space.defaults(space.methods[0])
    return {name: value for name, value in genome.items() if isinstance(value, float)}


def _uniform(space: WeightSpace) -> dict[str, Any] | None:
    """The plain average, by ``linear`` or by task vectors of weight 1/k; None for other methods."""
    if "linear" in space.methods:
        return _weighted(space, "linear", dict.fromkeys(space.pool.parents, 1.0))
    if "task_arithmetic" in space.methods:
        others = [name for name in space.pool.parents if name != space.pool.base]
        return _weighted(space, "task_arithmetic", dict.fromkeys(others, 1.0 / len(others)))
    return None


def _alone(space: WeightSpace, parent: str) -> dict[str, Any] | None:
    """One parent, unmerged, by the first method that can say so."""
    by_kind = {METHODS[method].base: method for method in reversed(space.methods)}
    if method := by_kind.get("ignored"):
        return _weighted(space, method, {name: float(name == parent) for name in space.pool.parents})
    if method := by_kind.get("required"):
        others = [name for name in space.pool.parents if name != space.pool.base]
        return _weighted(space, method, {name: float(name == parent) for name in others}, density=1.0)
    return _end_of_path(space, by_kind["either"], parent)


def _end_of_path(space: WeightSpace, method: str, parent: str) -> dict[str, Any]:
    """The end of a path between two parents at which one of them stands alone."""
    genome = space.defaults(method)
    pair = next(pair for pair in space.pairs if parent in pair.split("+"))
    end = float(pair.split("+")[1] == parent)
    return {
        gene: pair if gene == "pair" else end if gene.startswith("t.") else value
        for gene, value in genome.items()
    }


def _weighted(
    space: WeightSpace, method: str, weights: Mapping[str, float], density: float | None = None
) -> dict[str, Any] | None:
    """The method's defaults with these weights everywhere; None if the ranges exclude one of them."""
    genome = space.defaults(method)
    for gene in genome:
        name, _, rest = gene.partition(".")
        wanted = weights.get(rest.partition(".")[0]) if name == "weight" else density
        if name not in ("weight", "density") or wanted is None:
            continue
        distribution = space.genes[gene]
        assert isinstance(distribution, FloatDistribution)
        if not distribution.low <= wanted <= distribution.high:
            return None
        genome[gene] = wanted
    return genome

"""The weight space: merge methods, weights and densities per parent, layer group and filter.

"Parameter space" (PS) of Akiba et al., 2403.13187, with the merge method and the choice of parents as
genes too. Written from the method table: a parameter that several methods share is one gene, so that it
is inherited when the method changes. Every gene is always in the genome; ``express`` ignores the idle ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from ..errors import PlanError
from ..methods import METHODS, Method, Parameter
from ..plan import WeightsPlan
from ..recipe import Conditional, Parameters, Parent, Recipe, Setting, Slice, Source

Genome = Mapping[str, Any]

_DECIMALS = 4  # finer differences would only hide repeats and clutter the YAML


@dataclass(frozen=True)
class Pool:
    """What a study merges: its parents by name, in order, and what all their recipes share.

    ``layers`` is their depth; ``ends`` the names of the tensors before and after the layers.
    """

    parents: Mapping[str, Parent]
    base: str | None
    layers: int
    ends: tuple[tuple[str, ...], tuple[str, ...]]
    dtype: str
    seed: int


class WeightSpace:
    """The genes of a plan's weight space over a pool of parents, and their expression."""

    def __init__(self, plan: WeightsPlan, pool: Pool) -> None:
        if plan.layer_groups > pool.layers:
            raise PlanError(f"space.weights.layer_groups: {plan.layer_groups} for {pool.layers} layers")
        self._plan, self._pool = plan, pool
        self._names = tuple(pool.parents)
        self._pairs = [f"{a}+{b}" for a, b in itertools.combinations(self._names, 2)]
        self._groups = _groups(pool.layers, plan.layer_groups)
        self._parameters = {p.name: p for m in plan.methods for p in METHODS[m].parameters}
        self.genes: dict[str, BaseDistribution] = dict(self._genes())

    def express(self, genome: Genome) -> Recipe:
        """The recipe of a complete genome. Total: every genome in range expresses a valid recipe.

        A subset without parents counts as all of them, and a normalised average whose weights are all
        zero as the uniform one. Raises KeyError if a gene is missing.
        """
        method = METHODS[genome.get("method", self._plan.methods[0])]
        names = self._chosen(method, genome)
        base = self._base(method, names)
        inputs = [name for name in names if method.base != "required" or name != self._pool.base]
        slices = tuple(
            Slice(
                tuple(
                    Source(
                        self._pool.parents[name],
                        group,
                        self._settings(method, genome, index, name, inputs) if name in inputs else (),
                    )
                    for name in names
                ),
                self._settings(method, genome, index, None, inputs),
            )
            for index, group in enumerate(self._groups)
        )
        return Recipe(method.name, slices, base, dtype=self._pool.dtype, seed=self._pool.seed)

    def seeds(self) -> list[tuple[str, dict[str, Any]]]:
        """Labelled genomes to start from: each parent alone, the uniform average, each method's defaults.

        Distinct as recipes; what the plan's ranges cannot express is left out.
        """
        candidates = [(f"parent {name}", self._alone(name)) for name in self._names]
        candidates.append(("uniform average", self._uniform()))
        candidates += [(f"{m} defaults", self._defaults(m)) for m in self._plan.methods]
        seeds: dict[str, tuple[str, dict[str, Any]]] = {}
        for label, genome in candidates:
            if genome is not None:
                seeds.setdefault(self.express(genome).digest, (label, genome))
        return list(seeds.values())

    def start(self) -> dict[str, float]:
        """The numeric genes' values at the uniform average, else at the defaults: CMA-ES's first mean."""
        genome = self._uniform() or self._defaults(self._plan.methods[0])
        return {name: value for name, value in genome.items() if isinstance(value, float)}

    # -- genes

    def _genes(self) -> Iterator[tuple[str, BaseDistribution]]:
        if len(self._plan.methods) > 1:
            yield "method", CategoricalDistribution(self._plan.methods)
        if self._plan.parents == "subset":
            for name in self._names:
                yield f"use.{name}", CategoricalDistribution((True, False))
        if len(self._names) > 2 and any(METHODS[m].parents == 2 for m in self._plan.methods):
            yield "pair", CategoricalDistribution(self._pairs)
        for parameter in self._parameters.values():
            low, high = self._range(parameter)
            for gene in self._genes_of(parameter):
                yield gene, FloatDistribution(low, high)

    def _genes_of(self, parameter: Parameter) -> list[str]:
        owners = [f".{name}" for name in self._owners(parameter)] if parameter.scope == "parent" else [""]
        places = [f".{place}" for place in self._places()] if parameter.per_layer_group else [""]
        return [parameter.name + owner + place for owner in owners for place in places]

    def _owners(self, parameter: Parameter) -> list[str]:
        """The parents that some method reads the parameter of; the base is none if all set it apart."""
        readers = [m for m in self._plan.methods if parameter.name in _parameter_names(METHODS[m])]
        apart = all(METHODS[m].base == "required" for m in readers)
        return [name for name in self._names if not (apart and name == self._pool.base)]

    def _places(self) -> list[str]:
        filters = (*self._plan.filters, "rest") if self._plan.filters else ()
        groups = [f"g{index}" for index in range(len(self._groups))]
        places = [f"{group}.{f}" for group in groups for f in filters] if filters else groups
        return ["embed", *places, "head"] if self._plan.ends == "own" else places

    def _range(self, parameter: Parameter) -> tuple[float, float]:
        ranges = {"weight": self._plan.weight, "density": self._plan.density}
        return ranges.get(parameter.name, (parameter.low, parameter.high))

    # -- expression

    def _chosen(self, method: Method, genome: Genome) -> list[str]:
        """The inputs, in the pool's order, the base included where the method sets it apart."""
        if method.parents == 2:
            return str(genome["pair"] if "pair" in genome else self._pairs[0]).split("+")
        used = [name for name in self._names if genome.get(f"use.{name}", True)]
        if method.base == "required":
            used = [name for name in used if name != self._pool.base]
            used = used or [name for name in self._names if name != self._pool.base]
        names = [name for name in used if not self._idle(method, genome, name)] or used or list(self._names)
        return [n for n in self._names if n in names or (method.base == "required" and n == self._pool.base)]

    def _idle(self, method: Method, genome: Genome, name: str) -> bool:
        """Whether the parent's weight rounds to zero everywhere. Dropped from all slices or from none:
        mergekit miscounts when the first and the last slice have different numbers of sources."""
        weights = [genome.get(f"weight.{name}.{place}") for place in self._places()]
        return not method.random and all(w is not None and round(w, _DECIMALS) == 0 for w in weights)

    def _base(self, method: Method, names: Sequence[str]) -> Parent:
        """The base; where a method needs none, still named, since it gives config and tokenizer."""
        if method.base == "either":
            return self._pool.parents[names[0]]
        return self._pool.parents[self._pool.base or self._names[0]]

    def _settings(
        self, method: Method, genome: Genome, group: int, owner: str | None, inputs: Sequence[str]
    ) -> Parameters:
        """The parameters of one parent in one slice; the slice's shared ones for ``owner`` None."""
        scope = "shared" if owner is None else "parent"
        settings = [
            (p.name, self._setting(p, method, genome, group, owner, inputs))
            for p in method.parameters
            if p.scope == scope
        ]
        return tuple(sorted(settings))

    def _setting(
        self,
        parameter: Parameter,
        method: Method,
        genome: Genome,
        group: int,
        owner: str | None,
        inputs: Sequence[str],
    ) -> Setting:
        stem = parameter.name if owner is None else f"{parameter.name}.{owner}"
        if not parameter.per_layer_group:
            value = float(genome[stem])
            if parameter.ceiling is not None:
                value *= parameter.ceiling(round(float(genome[f"density.{owner}"]), _DECIMALS))
            return round(value, _DECIMALS)

        def at(place: str) -> float:
            value = round(float(genome[f"{stem}.{place}"]), _DECIMALS)
            if method.base == "ignored" and owner is not None and value == 0.0:
                others = (round(float(genome[f"{parameter.name}.{n}.{place}"]), _DECIMALS) for n in inputs)
                return 0.0 if any(others) else 1.0
            return value

        rows = list(self._conditions(group, at))
        return rows[0].value if len(rows) == 1 and rows[0].filter is None else tuple(rows)

    def _conditions(self, group: int, at: Any) -> Iterator[Conditional]:
        """Values by filter for one slice: the ends that it carries first, then the filters, then the rest."""
        if self._plan.ends == "own":
            before, after = self._pool.ends
            if group == 0:
                yield from (Conditional(at("embed"), name) for name in before)
            if group == len(self._groups) - 1:
                yield from (Conditional(at("head"), name) for name in after)
        for name in self._plan.filters:
            yield Conditional(at(f"g{group}.{name}"), name)
        yield Conditional(at(f"g{group}.rest" if self._plan.filters else f"g{group}"))

    # -- seeds

    def _defaults(self, method: str) -> dict[str, Any]:
        genome: dict[str, Any] = {}
        for gene, distribution in self.genes.items():
            if isinstance(distribution, FloatDistribution):
                name = gene.split(".")[0]
                own = next((p for p in METHODS[method].parameters if p.name == name), self._parameters[name])
                genome[gene] = min(max(own.default, distribution.low), distribution.high)
            elif isinstance(distribution, CategoricalDistribution):
                genome[gene] = method if gene == "method" else distribution.choices[0]
        return genome

    def _uniform(self) -> dict[str, Any] | None:
        """The plain average, by ``linear`` or by task vectors of weight 1/k; None for other methods."""
        for method, weight in (("linear", 1.0), ("task_arithmetic", 1.0 / max(1, self._task_vectors))):
            if method in self._plan.methods:
                return self._weighted(method, dict.fromkeys(self._names, weight))
        return None

    @property
    def _task_vectors(self) -> int:
        return len([name for name in self._names if name != self._pool.base])

    def _alone(self, parent: str) -> dict[str, Any] | None:
        """One parent, unmerged, by the first method that can say so."""
        for method in self._plan.methods:
            if METHODS[method].base == "ignored":
                return self._weighted(method, {name: float(name == parent) for name in self._names})
        for method in self._plan.methods:
            if METHODS[method].base == "required":
                weights = {name: float(name == parent) for name in self._names if name != self._pool.base}
                return self._weighted(method, weights, density=1.0)
        return self._end_of_path(parent)

    def _end_of_path(self, parent: str) -> dict[str, Any] | None:
        genome = self._defaults("slerp") if "slerp" in self._plan.methods else None
        if genome is None:
            return None
        pair = next(pair for pair in self._pairs if parent in pair.split("+"))
        if "pair" in genome:
            genome["pair"] = pair
        end = float(pair.split("+")[1] == parent)
        return {gene: end if gene.startswith("t.") else value for gene, value in genome.items()}

    def _weighted(
        self, method: str, weights: Mapping[str, float], density: float | None = None
    ) -> dict[str, Any] | None:
        """The method's defaults with these weights everywhere; None if the ranges exclude one of them."""
        genome = self._defaults(method)
        for gene in genome:
            name, _, owner = gene.partition(".")
            owner = owner.partition(".")[0]
            wanted = weights.get(owner) if name == "weight" else density if name == "density" else None
            if wanted is None:
                continue
            distribution = self.genes[gene]
            assert isinstance(distribution, FloatDistribution)
            if not distribution.low <= wanted <= distribution.high:
                return None
            genome[gene] = wanted
        return genome


def _parameter_names(method: Method) -> set[str]:
    return {parameter.name for parameter in method.parameters}


def _groups(layers: int, count: int) -> list[tuple[int, int]]:
    """``count`` runs of consecutive layers, as equal as can be, as [start, stop)."""
    bounds = [round(index * layers / count) for index in range(count + 1)]
    return list(itertools.pairwise(bounds))

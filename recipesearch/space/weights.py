"""The weight space: merge methods, weights and densities per parent, layer group and filter.

"Parameter space" (PS) of Akiba et al., 2403.13187, with the merge method and the choice of parents as
genes too. Written from the method table: a parameter that several methods share is one gene, so that it
is inherited when the method changes. Every gene is always in the genome; ``express`` ignores the idle ones.
"""

from __future__ import annotations

import itertools
import math
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
        self._plan, self.pool = plan, pool
        self._names = tuple(pool.parents)
        self.methods = plan.methods
        self.pairs = [f"{a}+{b}" for a, b in itertools.combinations(self._names, 2)]
        self._groups = _groups(pool.layers, plan.layer_groups)
        self._parameters = {p.name: p for m in plan.methods for p in METHODS[m].parameters}
        self.genes: dict[str, BaseDistribution] = dict(self._genes())

    def express(self, genome: Genome) -> Recipe:
        """The recipe of a complete genome. Total: every genome in range expresses a valid recipe.

        A subset without parents counts as all of them, and a normalised average whose weights are all
        zero as the uniform one. Raises KeyError if a gene is missing.
        """
        if missing := self.genes.keys() - genome.keys():
            raise KeyError(min(missing))
        method = METHODS[genome.get("method", self.methods[0])]
        names = self._chosen(method, genome)
        base = self._base(method, names)
        inputs = [name for name in names if method.base != "required" or name != self.pool.base]
        slices = tuple(
            Slice(
                tuple(
                    Source(
                        self.pool.parents[name],
                        group,
                        self._settings(method, genome, index, name, inputs) if name in inputs else (),
                    )
                    for name in names
                ),
                self._settings(method, genome, index, None, inputs),
            )
            for index, group in enumerate(self._groups)
        )
        return Recipe(method.name, slices, base, dtype=self.pool.dtype, seed=self.pool.seed)

    def defaults(self, method: str) -> dict[str, Any]:
        """A complete genome at a method's defaults, kept within the plan's ranges."""
        genome: dict[str, Any] = {}
        for gene, distribution in self.genes.items():
            if isinstance(distribution, FloatDistribution):
                name = gene.split(".")[0]
                own = next((p for p in METHODS[method].parameters if p.name == name), self._parameters[name])
                genome[gene] = min(max(own.default, distribution.low), distribution.high)
            elif isinstance(distribution, CategoricalDistribution):
                genome[gene] = method if gene == "method" else distribution.choices[0]
        return genome

    # -- genes

    def _genes(self) -> Iterator[tuple[str, BaseDistribution]]:
        if len(self.methods) > 1:
            yield "method", CategoricalDistribution(self.methods)
        if self._plan.parents == "subset":
            for name in self._optional():
                yield f"use.{name}", CategoricalDistribution((True, False))
        if len(self._names) > 2 and any(METHODS[m].parents == 2 for m in self.methods):
            yield "pair", CategoricalDistribution(self.pairs)
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
        readers = [m for m in self.methods if parameter.name in _parameter_names(METHODS[m])]
        apart = all(METHODS[m].base == "required" for m in readers)
        return [name for name in self._names if not (apart and name == self.pool.base)]

    def _optional(self) -> list[str]:
        """The parents that some method can leave out: not the base of task vectors, nor one of a pair."""
        choosers = [METHODS[m] for m in self.methods if METHODS[m].parents is None]
        apart = all(method.base == "required" for method in choosers)
        return [name for name in self._names if choosers and not (apart and name == self.pool.base)]

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
            return str(genome["pair"] if "pair" in genome else self.pairs[0]).split("+")
        used = [name for name in self._names if genome.get(f"use.{name}", True)]
        if method.base == "required":
            used = [name for name in used if name != self.pool.base]
            used = used or [name for name in self._names if name != self.pool.base]
        names = [name for name in used if not self._idle(method, genome, name)] or used or list(self._names)
        return [n for n in self._names if n in names or (method.base == "required" and n == self.pool.base)]

    def _idle(self, method: Method, genome: Genome, name: str) -> bool:
        """Whether the parent's weight rounds to zero everywhere. Dropped from all slices or from none:
        mergekit miscounts when the first and the last slice have different numbers of sources."""
        weights = [genome.get(f"weight.{name}.{place}") for place in self._places()]
        return not method.random and all(w is not None and round(w, _DECIMALS) == 0 for w in weights)

    def _base(self, method: Method, names: Sequence[str]) -> Parent:
        """The base; where a method needs none, still named, since it gives config and tokenizer."""
        if method.base == "either":
            return self.pool.parents[names[0]]
        return self.pool.parents[self.pool.base or self._names[0]]

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
                value = math.floor(value * 10**_DECIMALS + 1e-6) / 10**_DECIMALS  # up would reach the ceiling
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
            before, after = self.pool.ends
            if group == 0:
                yield from (Conditional(at("embed"), name) for name in before)
            if group == len(self._groups) - 1:
                yield from (Conditional(at("head"), name) for name in after)
        for name in self._plan.filters:
            yield Conditional(at(f"g{group}.{name}"), name)
        yield Conditional(at(f"g{group}.rest" if self._plan.filters else f"g{group}"))


def _parameter_names(method: Method) -> set[str]:
    return {parameter.name for parameter in method.parameters}


def _groups(layers: int, count: int) -> list[tuple[int, int]]:
    """``count`` runs of consecutive layers, as equal as can be, as [start, stop)."""
    bounds = [round(index * layers / count) for index in range(count + 1)]
    return list(itertools.pairwise(bounds))

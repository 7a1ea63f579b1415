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

from ..methods import METHODS, Method, Parameter
from ..plan import WeightsPlan
from ..recipe import Parameters, Parent, Recipe, Setting, Slice, Source
from .places import Ends, Places

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
    ends: Ends
    dtype: str
    seed: int


class WeightSpace:
    """The genes of a plan's weight space over a pool of parents, and their expression."""

    def __init__(self, plan: WeightsPlan, pool: Pool) -> None:
        self._plan, self.pool = plan, pool
        self._places = Places(plan, pool.layers, pool.ends)
        self._names = tuple(pool.parents)
        self.methods = plan.methods
        self.pairs = [f"{a}+{b}" for a, b in itertools.combinations(self._names, 2)]
        self._parameters = {p.name: p for m in plan.methods for p in METHODS[m].parameters}
        self.genes: dict[str, BaseDistribution] = dict(self._genes())

    def express(self, genome: Genome) -> Recipe:
        """The recipe of a complete genome. Total: every genome in range expresses a valid recipe.

        A subset without parents counts as all of them, and a normalised average whose weights are all
        zero as the uniform one. Raises KeyError if a gene is missing.
        """
        if missing := self.genes.keys() - genome.keys():
            raise KeyError(min(missing))
        choice = self._choose(genome)
        slices = tuple(
            Slice(
                tuple(
                    Source(self.pool.parents[name], layers, self._settings(choice, group, name))
                    for name in choice.names
                ),
                self._settings(choice, group, None),
            )
            for group, layers in enumerate(self._places.groups)
        )
        base = self._base(choice)
        return Recipe(choice.method.name, slices, base, dtype=self.pool.dtype, seed=self.pool.seed)

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
        places = [f".{place}" for place in self._places.names] if parameter.per_layer_group else [""]
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

    def _range(self, parameter: Parameter) -> tuple[float, float]:
        ranges = {"weight": self._plan.weight, "density": self._plan.density}
        return ranges.get(parameter.name, (parameter.low, parameter.high))

    # -- expression

    def _choose(self, genome: Genome) -> _Choice:
        method = METHODS[genome.get("method", self.methods[0])]
        names = self._chosen(method, genome)
        inputs = [name for name in names if method.base != "required" or name != self.pool.base]
        return _Choice(genome, method, names, inputs)

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
        weights = [genome.get(f"weight.{name}.{place}") for place in self._places.names]
        return not method.random and all(w is not None and _rounded(w) == 0 for w in weights)

    def _base(self, choice: _Choice) -> Parent:
        """The base; where a method needs none, still named, since it gives config and tokenizer."""
        if choice.method.base == "either":
            return self.pool.parents[choice.names[0]]
        return self.pool.parents[self.pool.base or self._names[0]]

    def _settings(self, choice: _Choice, group: int, owner: str | None) -> Parameters:
        """The parameters of one parent in one slice; the slice's shared ones for ``owner`` None."""
        if owner is not None and owner not in choice.inputs:
            return ()
        scope = "shared" if owner is None else "parent"
        wanted = [p for p in choice.method.parameters if p.scope == scope]
        return tuple(sorted((p.name, self._setting(choice, p, group, owner)) for p in wanted))

    def _setting(self, choice: _Choice, parameter: Parameter, group: int, owner: str | None) -> Setting:
        stem = parameter.name if owner is None else f"{parameter.name}.{owner}"
        if parameter.per_layer_group:
            return self._places.setting(group, lambda place: choice.value(stem, place))
        value = _rounded(choice.genome[stem])
        if parameter.ceiling is None:
            return value
        ceiling = parameter.ceiling(_rounded(choice.genome[f"density.{owner}"]))
        # Rounded down: up could reach the ceiling.
        scale = float(10**_DECIMALS)
        return math.floor(float(choice.genome[stem]) * ceiling * scale + 1e-6) / scale


@dataclass(frozen=True)
class _Choice:
    """What a genome chose: its method, the sources by name, and those of them that have parameters."""

    genome: Genome
    method: Method
    names: Sequence[str]
    inputs: Sequence[str]

    def value(self, stem: str, place: str) -> float:
        """A gene's value at a place. Where all weights of a normalised average are zero, they are one."""
        value = _rounded(self.genome[f"{stem}.{place}"])
        if value or self.method.base != "ignored":
            return value
        name = stem.partition(".")[0]
        return 0.0 if any(_rounded(self.genome[f"{name}.{n}.{place}"]) for n in self.inputs) else 1.0


def _rounded(value: float) -> float:
    return round(float(value), _DECIMALS)


def _parameter_names(method: Method) -> set[str]:
    return {parameter.name for parameter in method.parameters}

"""The weight space: merge methods, weights and densities per parent, layer group and filter.

"Parameter space" (PS) of Akiba et al., 2403.13187, with additional genes for the merge method, the base
and the choice of parents. The genes follow from the method table: a parameter that several methods
share is one gene, so a change of method inherits its value. Every gene is always in the genome.
``express`` ignores idle genes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from ..plan import WeightsPlan
from ..recipe import Parameters, Parent, Recipe, Setting, Slice, Source, freeze
from ..recipe.methods import METHODS, Method, Parameter
from .choice import Choice, Genome, Reader
from .places import Places
from .pool import Pool, require_all_parents, require_enough, require_one_donor

DECIMALS = 4  # of a recipe's numbers: more would only hide repeats and clutter the YAML


class WeightSpace:
    """The genes of a plan's weight space over a pool of parents, and their expression.

    Raises PlanError if a method needs more parents than there are, or if the pool requires other methods,
    parents or base (see ``pool.py``).
    """

    def __init__(self, plan: WeightsPlan, pool: Pool) -> None:
        self._plan, self.pool = plan, pool
        self.places = Places(plan, pool.layers, pool.parts)
        self._names = tuple(pool.parents)
        self.methods = plan.methods
        require_enough(plan, pool)
        if not pool.alike:
            require_one_donor(plan, pool)
        if pool.tokenizer:
            require_all_parents(plan, pool)
        two = [METHODS[m] for m in plan.methods if METHODS[m].most == 2]
        choose = itertools.permutations if any(m.ordered for m in two) else itertools.combinations
        self.pairs = [f"{a}+{b}" for a, b in choose(self._names, 2)]
        if pool.tokenizer or not pool.alike:  # a pair's first parent is its base, which gives the config
            self.pairs = [f"{pool.donor}+{name}" for name in self._names if name != pool.donor]
        # Keyed by gene: methods that share a gene agree on its range.
        self._parameters = {p.gene: p for m in plan.methods for p in METHODS[m].parameters}
        self.genes: dict[str, BaseDistribution] = dict(self._genes())

    def express(self, genome: Genome) -> Recipe:
        """The recipe of a complete genome. Total: every genome in range expresses a valid recipe.

        A subset of too few parents counts as all parents. A normalised average whose weights are all zero
        counts as the uniform average. Raises KeyError if a gene is missing.
        """
        if missing := self.genes.keys() - genome.keys():
            raise KeyError(min(missing))
        choice = self._choose(genome)
        slices = tuple(
            Slice(
                tuple(
                    Source(self.pool.parents[name], layers, self._settings(choice, group, name))
                    for name in choice.sources(group)
                ),
                self._settings(choice, group, None),
            )
            for group, layers in enumerate(self.places.groups)
        )
        return Recipe(
            choice.method.name,
            slices,
            self._donor(choice),
            freeze(self._plan.constants(choice.method)),
            dtype=self.pool.dtype,
            seed=self.pool.seed,
            tokenizer=self.pool.tokenizer,
        )

    def active(self, genome: Genome) -> set[str]:
        """The genes that decide this genome's recipe. The other genes are idle and may have any value."""
        reader = Reader(genome)
        self.express(reader)
        return reader.read

    def constants(self, method: str) -> Mapping[str, Any]:
        """The parameters of a method that the plan fixes, by name."""
        return self._plan.constants(METHODS[method])

    def bases(self, method: Method) -> list[str | None]:
        """The parents that can be a method's separate base; [None] for a method without one."""
        if self._origin(method, {"base": self._names[0]}) is None:
            return [None]
        return list(self._names) if "base" in self.genes else [self.pool.base]

    def searches(self, gene: str) -> bool:
        """Whether some method of the plan has this gene, fixed or not."""
        return gene in self._parameters

    def range(self, gene: str) -> tuple[float, float]:
        """The range of a gene of all parents and places; both ends are equal for a fixed value."""
        setting = self._plan.setting(self._parameters[gene])
        return setting if isinstance(setting, tuple) else (setting, setting)

    def takes(self, stem: str, value: float) -> bool:
        """Whether the plan allows this value for the genes of a stem (``weight.math``)."""
        setting = self._plan.setting(self._parameters[stem.split(".")[0]])
        return setting[0] <= value <= setting[1] if isinstance(setting, tuple) else setting == value

    def defaults(self, method: str) -> dict[str, Any]:
        """A complete genome with a method's defaults, clipped to the plan's ranges."""
        chosen: dict[str, Any] = {"method": method, "base": self.pool.base}
        own = {p.gene: p for p in METHODS[method].parameters}
        genome: dict[str, Any] = {}
        for gene, distribution in self.genes.items():
            stem = gene.split(".")[0]
            if isinstance(distribution, FloatDistribution):
                default = own.get(stem, self._parameters[stem]).default
                genome[gene] = min(max(default, distribution.low), distribution.high)
            elif isinstance(distribution, CategoricalDistribution):
                first = distribution.choices[0]
                genome[gene] = chosen.get(gene) if gene in chosen and chosen[gene] is not None else first
        return genome

    # -- genes

    def _genes(self) -> Iterator[tuple[str, BaseDistribution]]:
        methods = [METHODS[m] for m in self.methods]
        if len(methods) > 1:
            yield "method", CategoricalDistribution(self.methods)
        if self._plan.base == "any" and any(m.base in ("required", "optional") for m in methods):
            yield "base", CategoricalDistribution(self._names)
        if self._plan.parents == "subset":
            for name in self._optional():
                yield f"use.{name}", CategoricalDistribution((True, False))
        if len(self.pairs) > 1 and any(m.most == 2 for m in methods):
            yield "pair", CategoricalDistribution(self.pairs)
        if any(m.most == 1 for m in methods):
            for group in range(len(self.places.groups)):
                yield f"only.g{group}", CategoricalDistribution(self._names)
        for parameter in self._parameters.values():
            setting = self._plan.setting(parameter)
            if isinstance(setting, tuple):
                for gene in self._genes_of(parameter):
                    yield gene, FloatDistribution(*setting, log=parameter.log)

    def _genes_of(self, parameter: Parameter) -> list[str]:
        owners = [f".{name}" for name in self._owners(parameter)] if parameter.scope == "parent" else [""]
        places = [f".{place}" for place in self.places.names] if parameter.per_place else [""]
        return [parameter.gene + owner + place for owner in owners for place in places]

    def _owners(self, parameter: Parameter) -> list[str]:
        """The parents for which some method reads the parameter. Never a base that is always separate."""
        readers = [METHODS[m] for m in self.methods if METHODS[m].has(parameter.gene)]
        return self._besides_base(readers)

    def _optional(self) -> list[str]:
        """The parents that some method can leave out: not the base of task vectors, nor one of a pair."""
        return self._besides_base([METHODS[m] for m in self.methods if METHODS[m].most is None])

    def _besides_base(self, methods: Sequence[Method]) -> list[str]:
        """The parents that at least one of the methods counts as a parent, not as a separate base."""
        apart = self._plan.base == "fixed" and all(self._origin(m, {}) is not None for m in methods)
        return [name for name in self._names if methods and not (apart and name == self.pool.base)]

    # -- expression

    def _choose(self, genome: Genome) -> Choice:
        method = METHODS[genome["method"] if "method" in self.genes else self.methods[0]]
        base = self._origin(method, genome)
        inputs = self._inputs(method, base, genome)
        return Choice(genome, method, base, inputs, self._names)

    def _origin(self, method: Method, genome: Genome) -> str | None:
        """The method's separate base; None if the method uses none."""
        spare = len(self._names) > method.fewest
        if method.base != "required" and not (method.base == "optional" and spare):
            return None
        base: str | None = genome.get("base", self.pool.base)
        return base

    def _inputs(self, method: Method, base: str | None, genome: Genome) -> list[str]:
        """The parents that the method reads, without a separate base.

        A pair keeps its own order. Other parents are in the pool's order. Empty if each layer group
        chooses its own parent.
        """
        if method.most == 1:
            return []
        names = [name for name in self._names if name != base]
        if method.most == 2:
            pair = str(genome["pair"] if "pair" in self.genes else self.pairs[0]).split("+")
            spare = iter([name for name in names if name not in pair])
            return [name if name != base else next(spare) for name in pair]
        used = [name for name in names if f"use.{name}" not in self.genes or genome[f"use.{name}"]]
        if len(used) < method.fewest:
            used = names
        kept = [name for name in used if not self._idle(method, genome, name)]
        return kept if len(kept) >= method.fewest else used

    def _idle(self, method: Method, genome: Genome, name: str) -> bool:
        """Whether to drop the parent, because its weight rounds to zero everywhere.

        A parent is dropped from all slices or from none: mergekit miscounts if the first and the last
        slice have different numbers of sources. With aligned vocabularies no parent is dropped: its
        tokens would be lost.
        """
        if self.pool.tokenizer or method.random or not any(p.gene == "weight" for p in method.parameters):
            return False
        weights = [self._number(genome, f"weight.{name}.{place}") for place in self.places.names]
        return not any(weights)

    def _donor(self, choice: Choice) -> Parent | None:
        """The recipe's base, which gives config and tokenizer even if the method needs no base.

        None if mergekit would treat the base as an input.
        """
        if choice.method.base == "optional" and choice.base is None:
            return None
        if choice.method.base == "either":
            return self.pool.parents[choice.inputs[0]]
        return self.pool.parents[choice.base or self.pool.donor]

    def _settings(self, choice: Choice, group: int, owner: str | None) -> Parameters:
        """The parameters of one source in one slice; for ``owner`` None the slice's shared parameters."""
        if owner is not None and owner == choice.base:
            return ()
        wanted = [p for p in choice.method.parameters if (p.scope == "shared") == (owner is None)]
        return tuple(sorted((p.name, self._setting(choice, p, group, owner)) for p in wanted))

    def _setting(self, choice: Choice, parameter: Parameter, group: int, owner: str | None) -> Setting:
        stem = f"{parameter.gene}.{owner}" if parameter.scope == "parent" else parameter.gene
        if parameter.per_place:
            return self.places.setting(group, lambda place: self._value(choice, parameter, owner, place))
        if parameter.ceiling is None:
            return self._number(choice.genome, stem)
        ceiling = parameter.ceiling(self._number(choice.genome, f"density.{owner}"))
        # Rounded down, because rounding up could reach the ceiling.
        scale = float(10**DECIMALS)
        return math.floor(self._raw(choice.genome, stem) * ceiling * scale + 1e-6) / scale

    def _value(self, choice: Choice, parameter: Parameter, owner: str | None, place: str) -> float:
        """A parameter's value at a place. If all weights of a normalised average are zero, they become 1."""
        if parameter.scope != "parent":
            value = self._number(choice.genome, f"{parameter.gene}.{place}")
            first = parameter.scope == "ratio" and owner == choice.inputs[0]
            return round(1.0 - value, DECIMALS) if first else value
        value = self._number(choice.genome, f"{parameter.gene}.{owner}.{place}")
        if value or not choice.method.normalised:
            return value
        others = (self._number(choice.genome, f"{parameter.gene}.{n}.{place}") for n in choice.inputs)
        return 0.0 if any(others) else 1.0

    def _number(self, genome: Genome, gene: str) -> float:
        """A numeric gene's value as written in recipes.

        Four decimals, or four significant digits on a log scale.
        """
        value = self._raw(genome, gene)
        if self._parameters[gene.split(".")[0]].log:
            return float(f"{value:.{DECIMALS - 1}e}")
        return round(value, DECIMALS)

    def _raw(self, genome: Genome, gene: str) -> float:
        if gene in self.genes:
            return float(genome[gene])
        setting = self._plan.setting(self._parameters[gene.split(".")[0]])
        assert not isinstance(setting, tuple)
        return setting

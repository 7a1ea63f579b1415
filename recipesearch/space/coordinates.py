"""Merge coordinates: what each parent contributes to each place of the model, whatever method says so.

Many genomes express one merge, and a change of method changes all of its genes. Coordinates are the same for
all methods: linear weights w are the shares w / sum(w), a position t on a path is the shares 1 - t and t, and
task vectors of weights w are w of their parents and 1 - sum(w) of their base. A search over coordinates keeps
its position when the method changes, and every method teaches about the others. Density, signs and spheres
are not in the shares: a density, for instance, is one of the extras.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution

from ..recipe.methods import METHODS, Method
from .positions import MIDDLE, from_unit
from .weights import DECIMALS, WeightSpace

Array = NDArray[np.float64]

IDLE = MIDDLE  # an extra that the method does not read
LEAD = 0.75  # the first parent's share of an ordered pair without a ratio
_SHARED = ("weight", "t", "lambda")  # the genes that are expressed as shares


@dataclass(frozen=True)
class Coordinates:
    """One merge as a point.

    - ``base``: the parent that task vectors are taken from; None for a method without a separate base.
    - ``shares``: each parent's coefficient at each place, shape (places, parents). A place's shares sum to 1,
      unless the plan turns normalisation off.
    - ``extras``: the further numeric parameters, shape (extras,). Each is a position from 0 to 1 in the
      gene's range; where the gene is a fraction of a ceiling, the parameter's own value; 0.5 for a parameter
      that the method does not read.
    """

    method: str
    base: str | None
    shares: Array
    extras: Array

    @property
    def kind(self) -> tuple[str, str | None]:
        """The method and its base: what the numbers belong to."""
        return self.method, self.base


class CoordinateSystem:
    """The coordinates of one weight space, and the way back to genomes.

    ``kinds`` are all pairs of a method and its separate base. ``extras`` names the genes of
    ``Coordinates.extras``.
    """

    def __init__(self, space: WeightSpace) -> None:
        self.space = space
        self.names, self.places = tuple(space.pool.parents), tuple(space.places.names)
        self.extras = tuple(
            name
            for name, gene in space.genes.items()
            if isinstance(gene, FloatDistribution) and name.split(".")[0] not in _SHARED
        )
        self.kinds = [(name, base) for name in space.methods for base in space.bases(METHODS[name])]
        # Asked for every candidate of a search, so found once.
        self._ranges = {gene: space.range(gene) for gene in ("weight", "t", "lambda") if space.searches(gene)}
        self._averaging = {name: _averages(METHODS[name], space.constants(name)) for name in space.methods}
        self._stems = [tuple(name.split(".")) for name in self.extras]

    @property
    def donor(self) -> int:
        """The column of the donor."""
        return self.names.index(self.space.pool.donor)

    @cached_property
    def affine(self) -> bool:
        """Whether every place's shares sum to 1, whatever the method."""
        rows = [METHODS[method] for method in self.space.methods]
        return all(
            row.base == "required" or not row.has("weight") or self._averaging[row.name] for row in rows
        )

    # -- points that a genome can express

    def canonical(self, point: Coordinates) -> Coordinates:
        """The nearest point that a genome can express."""
        row = METHODS[point.method]
        if row.most == 1:
            shares = self._in_group @ np.eye(len(self.names))[self._owners(point)]
        elif row.most == 2:
            shares = self._paired(row, point)
        else:
            shares = self._mixed(row, point)
        read = self.reads(row, point.base, shares)
        extras = np.where(read, np.clip(point.extras, 0.0, 1.0), IDLE)
        for index, ceiling in self._ceilings(row, extras):
            gene = self.space.genes[self.extras[index]]
            assert isinstance(gene, FloatDistribution)
            if read[index]:
                extras[index] = np.clip(extras[index], gene.low * ceiling, gene.high * ceiling)
        return Coordinates(point.method, point.base, shares, extras)

    def _ceilings(self, row: Method, extras: Array) -> Iterator[tuple[int, float]]:
        """The extras that are limited by their parent's density, with their limits."""
        limits = {p.gene: p.ceiling for p in row.parameters if p.ceiling is not None}
        for index, name in enumerate(self.extras):
            stem, _, owner = name.partition(".")
            if ceiling := limits.get(stem):
                yield index, ceiling(self._density(owner, extras))

    def _density(self, owner: str, extras: Array) -> float:
        name = f"density.{owner}"
        if name not in self.extras:
            return self.space.range("density")[0]
        position = float(extras[self.extras.index(name)])
        return round(from_unit(self.space.genes[name], position), DECIMALS)

    def reads(self, row: Method, base: str | None, shares: Array) -> list[bool]:
        """Whether each extra matters: the method reads the gene, and the gene's parent contributes."""
        absent = {base}
        if row.has("weight"):
            used = (shares.round(DECIMALS) != 0).any(axis=0)
            absent |= {name for name, use in zip(self.names, used, strict=True) if not use}
        genes = row.genes
        return [stem in genes and not absent.intersection(owner) for stem, *owner in self._stems]

    @cached_property
    def _in_group(self) -> Array:
        return self.space.places.membership()

    def _owners(self, point: Coordinates) -> NDArray[np.int64]:
        """The column of the parent with the largest share in each layer group."""
        return np.asarray((self._in_group.T @ point.shares).argmax(axis=1))

    def _paired(self, row: Method, point: Coordinates) -> Array:
        one, other = self._pair(row, point)
        shares = np.zeros_like(point.shares)
        shares[:, other] = self._positions(point, one, other) if row.has("t") else 1 - LEAD
        shares[:, one] = 1.0 - shares[:, other]
        return shares

    def _pair(self, row: Method, point: Coordinates) -> tuple[int, int]:
        """The columns of the pair with the largest shares, the larger one first if the order counts."""
        totals = point.shares.sum(axis=0)
        pairs = [[self.names.index(name) for name in pair.split("+")] for pair in self.space.pairs]
        if point.base is not None:
            apart = self.names.index(point.base)
            pairs = [pair for pair in pairs if apart not in pair] or pairs
        ahead = 1.0 if row.ordered else 0.0
        one, other = max(pairs, key=lambda pair: (sum(totals[pair]), ahead * totals[pair[0]]))
        return one, other

    def _positions(self, point: Coordinates, one: int, other: int) -> Array:
        """The position on the path from one parent to the other at each place."""
        both = np.maximum(point.shares[:, [one, other]], 0.0)
        total = both.sum(axis=1)
        middle = np.where(total > 0, both[:, 1] / np.where(total > 0, total, 1.0), 0.5)
        return np.round(np.clip(middle, *self._ranges["t"]), DECIMALS)

    def _mixed(self, row: Method, point: Coordinates) -> Array:
        inputs = self._inputs(row, point)
        shares = np.zeros_like(point.shares)
        if row.has("weight"):
            scale = self._scale(row, point, inputs)
            weights = self._weights(row, point.shares[:, inputs], scale)
            shares[:, inputs] = self._mean(row, weights, scale)
        else:
            shares[:, inputs] = 1.0 / len(inputs)
        if point.base is not None:
            shares[:, self.names.index(point.base)] = 1.0 - shares.sum(axis=1)
        return shares

    def _inputs(self, row: Method, point: Coordinates) -> list[int]:
        """The columns of the parents that the method reads. Without weights: of those with a fair share."""
        columns = [column for column, name in enumerate(self.names) if name != point.base]
        if row.has("weight"):
            return columns
        means = point.shares.mean(axis=0)
        chosen = [
            f"use.{self.names[c]}" not in self.space.genes or means[c] >= 0.5 / len(columns) for c in columns
        ]
        used = [column for column, use in zip(columns, chosen, strict=True) if use]
        return used if len(used) >= row.fewest else columns

    def _weights(self, row: Method, shares: Array, scale: float) -> Array:
        """Weights in the plan's range for these shares or, where weights are averaged, for their ratios."""
        low, high = self._ranges["weight"]
        shares = shares / (scale or 1.0)
        if self._averaging[row.name]:
            shares = np.maximum(shares, 0.0)
            most = shares.max(axis=1, keepdims=True)
            factor = high / np.where(most > 0, most, high)
            shares = shares * (factor if low > 0 else np.minimum(factor, 1.0))
        return np.asarray(np.round(np.clip(shares, low, high), DECIMALS))

    def _mean(self, row: Method, weights: Array, scale: float) -> Array:
        """The shares of inputs of these weights, shape (places, inputs)."""
        if not self._averaging[row.name]:
            empty = row.normalised & ~weights.any(axis=1, keepdims=True)
            return np.where(empty, 1.0, weights * scale)
        totals = weights.sum(axis=1, keepdims=True)
        uniform = 1.0 / weights.shape[1] if row.normalised else 0.0
        means: Array = np.where(totals > 0, weights / np.where(totals > 0, totals, 1.0), uniform)
        return means * scale

    def _scale(self, row: Method, point: Coordinates, inputs: list[int]) -> float:
        """Lambda: what the inputs contribute together, in the mean over the places where they do."""
        if not row.has("lambda"):
            return float(self.space.constants(row.name).get("lambda", 1.0))
        if not self._averaging[row.name]:  # weights and lambda are then one number
            return float(np.clip(1.0, *self._ranges["lambda"]))
        totals = point.shares[:, inputs].sum(axis=1)
        total = float(totals[totals > 0].mean()) if (totals > 0).any() else 1.0
        return round(float(np.clip(total, *self._ranges["lambda"])), DECIMALS)

    # -- the genome of a point

    def genome(self, point: Coordinates) -> dict[str, Any]:
        """A complete genome that expresses a canonical point, to four decimals of each parameter."""
        row = METHODS[point.method]
        genome = self.space.defaults(point.method)
        wanted = {**dict(self._choices(row, point)), **dict(self._numbers(row, point))}
        return genome | {gene: value for gene, value in wanted.items() if gene in genome}

    def _choices(self, row: Method, point: Coordinates) -> Iterator[tuple[str, Any]]:
        if point.base is not None:
            yield "base", point.base
        if row.most == 1:
            for group, owner in enumerate(self._owners(point)):
                yield f"only.g{group}", self.names[owner]
        elif row.most == 2:
            yield "pair", "+".join(self.names[column] for column in self._pair(row, point))
        else:
            used = (point.shares.round(DECIMALS) != 0).any(axis=0)
            yield from ((f"use.{name}", bool(use)) for name, use in zip(self.names, used, strict=True))

    def _numbers(self, row: Method, point: Coordinates) -> Iterator[tuple[str, float]]:
        if row.has("t"):
            positions = self._positions(point, *self._pair(row, point))
            yield from ((f"t.{place}", float(t)) for place, t in zip(self.places, positions, strict=True))
        elif row.has("weight"):
            inputs = self._inputs(row, point)
            scale = self._scale(row, point, inputs)
            weights = self._weights(row, point.shares[:, inputs], scale)
            for place, values in zip(self.places, weights, strict=True):
                for column, weight in zip(inputs, values, strict=True):
                    yield f"weight.{self.names[column]}.{place}", float(weight)
            yield "lambda", scale
        ceilings = dict(self._ceilings(row, point.extras))
        for index, read in enumerate(self.reads(row, point.base, point.shares)):
            if read:
                yield self.extras[index], self._gene(index, float(point.extras[index]), ceilings.get(index))

    def _gene(self, index: int, value: float, ceiling: float | None) -> float:
        gene = self.space.genes[self.extras[index]]
        if ceiling is None:
            return from_unit(gene, value)
        assert isinstance(gene, FloatDistribution)
        return min(max(value / ceiling, gene.low), gene.high) if ceiling > 0 else gene.low


def _averages(row: Method, constants: Mapping[str, Any]) -> bool:
    """Whether the weights of a place are divided by their sum."""
    return bool(constants.get("normalize", constants.get("normalize_weights", row.averages)))

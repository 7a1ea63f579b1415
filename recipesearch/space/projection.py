"""The coordinates of any recipe over a pool's parents, whichever space expressed the recipe.

Shares are read from the recipe at probes, which are tensors of each place, and averaged. For a recipe of the
space itself the result is exact, since all tensors of a place have the same parameters. For a recipe of
another space the result is the nearest description with these places.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..recipe import Conditional, Parent, Recipe, Setting, Slice
from ..recipe.methods import METHODS, Method, Parameter
from .coordinates import IDLE, LEAD, Array, Coordinates, CoordinateSystem
from .places import Probe
from .positions import to_unit


class Projection:
    """Projects recipes onto one coordinate system."""

    def __init__(self, system: CoordinateSystem) -> None:
        self._system, self._pool = system, system.space.pool
        self._probes = system.space.places.probes()
        self._names = {parent: name for name, parent in self._pool.parents.items()}

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The pool's parents."""
        return tuple(self._names)

    def of(self, recipe: Recipe) -> Coordinates | None:
        """A recipe's coordinates; None if it has other parents or tokens, or layers at other depths."""
        layout = _layout(recipe, self._pool.layers)
        if layout is None or recipe.tokenizer != self._pool.tokenizer:
            return None
        if not self._names.keys() >= set(recipe.parents()):
            return None
        reading = _Reading(recipe, layout)
        shares = np.array([self._shares(reading, probes) for probes in self._probes])
        base = self._names[reading.base] if reading.base else None
        extras = np.where(self._system.reads(reading.row, base, shares), self._extras(reading), IDLE)
        return Coordinates(recipe.method, base, shares, extras)

    def _shares(self, reading: _Reading, probes: Sequence[Probe]) -> Array:
        """The mean share of each parent at some probes, shape (parents,)."""
        found = np.zeros(len(self._names))
        columns = {parent: column for column, parent in enumerate(self._names)}
        for probe in probes:
            for parent, share in reading.shares(probe).items():
                found[columns[parent]] += share / len(probes)
        return found

    def _extras(self, reading: _Reading) -> Array:
        """The extras, of the parameters that the recipe states."""
        found = np.full(len(self._system.extras), IDLE)
        stems = {parameter.gene: parameter for parameter in reading.row.parameters}
        for index, name in enumerate(self._system.extras):
            stem, _, rest = name.partition(".")
            value = self._value(reading, stems[stem], rest) if stem in stems else None
            if value is not None:
                position = value if stems[stem].ceiling else to_unit(self._system.space.genes[name], value)
                found[index] = min(max(position, 0.0), 1.0)
        return found

    def _value(self, reading: _Reading, parameter: Parameter, rest: str) -> float | None:
        """A parameter's mean value at its probes; None if the recipe does not state the parameter."""
        probes = self._probes[self._system.places.index(rest)] if parameter.per_place else self._probes[0]
        owner = self._pool.parents[rest] if parameter.scope == "parent" else None
        values = [reading.number(parameter.name, owner, probe) for probe in probes]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None


class _Reading:
    """A recipe's parameters at probes."""

    def __init__(self, recipe: Recipe, layout: Sequence[tuple[int, int, Slice]]) -> None:
        self.row: Method = METHODS[recipe.method]
        self.base = recipe.base if self.row.base in ("required", "optional") else None
        self._recipe, self._layout = recipe, layout

    def shares(self, probe: Probe) -> dict[Parent, float]:
        """The parents' shares at a probe, with a separate base's."""
        part, _ = self._at(probe)
        inputs = [source.parent for source in part.sources if source.parent != self.base]
        shares = dict(zip(inputs, self._of_inputs(inputs, probe), strict=True))
        if self.base:
            shares[self.base] = 1.0 - sum(shares.values())
        return shares

    def number(self, name: str, owner: Parent | None, probe: Probe) -> float | None:
        """A parameter's value at a probe, of one parent or shared; None if the recipe does not state it.

        The most specific setting that has a value for the probe's tensor applies, as in mergekit.
        """
        part, t = self._at(probe)
        own = next((s.parameters for s in part.sources if owner in (None, s.parent)), ())
        for parameters in (own, part.parameters, self._recipe.parameters):
            value = _number(dict(parameters).get(name, ()), probe.tensor, t)
            if value is not None:
                return value
        return None

    def _of_inputs(self, inputs: Sequence[Parent], probe: Probe) -> list[float]:
        row, count = self.row, len(inputs)
        if row.name == "slerp":
            t = self.number("t", None, probe)
            assert t is not None
            return [1.0 - t if parent == self._recipe.base else t for parent in inputs]
        if "weight" not in row.accepts:
            return [LEAD, 1.0 - LEAD] if row.ordered else [1.0 / count] * count
        stated = [self.number("weight", parent, probe) for parent in inputs]
        weights = [1.0 if weight is None else weight for weight in stated]
        scale = self.number("lambda", None, probe)
        return self._averaged(weights, 1.0 if scale is None else scale)

    def _averaged(self, weights: Sequence[float], scale: float) -> list[float]:
        constants = dict(self._recipe.parameters)
        if not constants.get("normalize", constants.get("normalize_weights", self.row.averages)):
            return [weight * scale for weight in weights]
        total = sum(weights)
        if not total:
            return [scale / len(weights) if self.row.normalised else 0.0] * len(weights)
        return [scale * weight / total for weight in weights]

    def _at(self, probe: Probe) -> tuple[Slice, float]:
        """The slice of a probe, and the probe's position from 0 to 1 within the slice's layers."""
        start, stop, part = next(run for run in self._layout if probe.layer <= run[1] - 1)
        if not probe.within:
            return part, 0.0
        return part, min(
            max((probe.layer - start) / (stop - 1 - start), 0.0), 1.0
        ) if stop - 1 > start else 1.0


def _layout(recipe: Recipe, layers: int) -> list[tuple[int, int, Slice]] | None:
    """The slices with their ranges of layers; None if a layer is not at its own depth."""
    found, start = [], 0
    for part in recipe.slices:
        ranges = {source.layers or (0, layers) for source in part.sources}
        if len(ranges) != 1 or next(iter(ranges))[0] != start:
            return None
        stop = next(iter(ranges))[1]
        found.append((start, stop, part))
        start = stop
    return found if start == layers else None


@lru_cache(maxsize=4096)
def _applicable(setting: Setting, tensor: str) -> Setting:
    """The value of a setting that applies to a tensor: the first whose filter matches; () if none does."""
    if not isinstance(setting, tuple) or not any(isinstance(item, Conditional) for item in setting):
        return setting
    conditions = [item for item in setting if isinstance(item, Conditional)]
    return next((c.value for c in conditions if c.filter is None or c.filter in tensor), ())


def _number(setting: Setting, tensor: str, t: float) -> float | None:
    value = _applicable(setting, tensor)
    if not isinstance(value, tuple):
        return float(value)
    if not value:
        return None
    # A gradient.
    return float(np.interp(t, np.linspace(0.0, 1.0, len(value)), [float(v) for v in value]))  # type: ignore[arg-type]

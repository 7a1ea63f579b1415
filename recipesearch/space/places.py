"""Places: the parts of a model in which a parameter may have a value of its own.

Layer groups are slices of a recipe. Filters are conditions on tensor names inside a slice. A gradient is one
slice whose values mergekit interpolates over the layers. Embeddings belong to the first layers, and the final
norm and head to the last layers, unless the plan makes them, or all norms, separate places.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import PlanError
from ..plan import WeightsPlan
from ..recipe import Conditional, Scalar, Setting

_REST = "rest"  # the tensors that match no filter


@dataclass(frozen=True)
class Parts:
    """Parts of a model, as substrings of tensor names: before the layers, after the layers, and norms.

    ``inner`` are the names of one layer's tensors, with ``{}`` for the layer's number.
    """

    embed: tuple[str, ...]
    head: tuple[str, ...]
    norm: tuple[str, ...]
    inner: tuple[str, ...] = ("model.layers.{}.weight",)


@dataclass(frozen=True)
class Probe:
    """A tensor of a place, at a layer that may be fractional. ``within``: the tensor is part of a layer."""

    layer: float
    tensor: str
    within: bool = True


class Places:
    """The places of a plan over ``layers`` layers. Raises PlanError for more groups than layers.

    ``groups`` are the layers of each slice as [start, stop). ``names`` are the places' names in
    genes: ``g0``, ``g0.self_attn``, ``g0.rest`` (``p0``... for the points of a gradient),
    ``embed``, ``head``, ``norm``.
    """

    def __init__(self, plan: WeightsPlan, layers: int, parts: Parts) -> None:
        if plan.layer_groups > layers:
            raise PlanError(
                f"space.weights.layer_groups: {plan.layer_groups} for {layers} layers; choose fewer"
            )
        self.groups = _split(layers, plan.layer_groups)
        self._points = plan.gradient
        self._filters = plan.filters
        self._own = plan.own
        self._parts = parts
        self.names: Sequence[str] = [
            *(["embed"] if "embed" in plan.own else []),
            *(f"{stem}{tail}" for stem in self._stems() for tail in self._tails()),
            *(name for name in ("head", "norm") if name in plan.own),
        ]

    def setting(self, group: int, value_at: Callable[[str], float]) -> Setting:
        """A parameter's setting in one group's slice. ``value_at`` gives the value at a place, by name."""
        rows = tuple(self._conditions(group, value_at))
        return rows[0].value if len(rows) == 1 and rows[0].filter is None else rows

    def probes(self) -> list[list[Probe]]:
        """The tensors of each place, in the order of ``names``: of every layer, or at a gradient's points."""
        last = self.groups[-1][1] - 1
        if self._points:
            at = [(f"p{i}", last * i / (self._points - 1)) for i in range(self._points)]
        else:
            at = [(f"g{g}", float(n)) for g, run in enumerate(self.groups) for n in range(*run)]
        first, final = at[0][0], at[-1][0]
        found: dict[str, list[Probe]] = {name: [] for name in self.names}
        for stem, layer in at:
            for template in self._parts.inner:
                tensor = template.format(round(layer))
                found[self._place(stem, tensor)].append(Probe(layer, tensor))
        for stem, layer, tensors in ((first, 0, self._parts.embed), (final, last, self._parts.head)):
            for tensor in tensors:
                found[self._place(stem, tensor)].append(Probe(float(layer), tensor, within=False))
        return list(found.values())

    def membership(self) -> NDArray[np.float64]:
        """The share of each place's tensors in each layer group, shape (places, groups)."""
        starts = [start for start, _ in self.groups]
        found = np.zeros((len(self.names), len(starts)))
        for row, probes in zip(found, self.probes(), strict=True):
            for probe in probes:
                row[bisect_right(starts, probe.layer) - 1] += 1 / len(probes)
        return found

    def _place(self, stem: str, tensor: str) -> str:
        """The place of a tensor of a layer group or point: its own part, else the group and the filter."""
        parts = {"norm": self._parts.norm, "embed": self._parts.embed, "head": self._parts.head}
        for part, patterns in parts.items():
            if part in self._own and any(pattern in tensor for pattern in patterns):
                return part
        return stem + self._tail_of(tensor)

    def _stems(self) -> list[str]:
        if self._points:
            return [f"p{point}" for point in range(self._points)]
        return [f"g{group}" for group in range(len(self.groups))]

    def _tails(self) -> list[str]:
        return [f".{name}" for name in (*self._filters, _REST)] if self._filters else [""]

    def _conditions(self, group: int, value_at: Callable[[str], float]) -> Iterator[Conditional]:
        """Values by filter, of which the first match applies: separate parts, filters, the rest."""
        last = group == len(self.groups) - 1
        if "norm" in self._own:
            yield from (Conditional(value_at("norm"), name) for name in self._parts.norm)
        if "embed" in self._own and group == 0:
            yield from (Conditional(value_at("embed"), name) for name in self._parts.embed)
        if "head" in self._own and last:
            yield from (Conditional(value_at("head"), name) for name in self._parts.head)
        elif self._points and last:
            # mergekit gives tensors after the layers a gradient's first value (plan.plan_module).
            for name in self._parts.head:
                yield Conditional(value_at(self._stems()[-1] + self._tail_of(name)), name)
        *named, rest = self._tails()
        for name, tail in zip(self._filters, named, strict=True):
            yield Conditional(self._value(group, tail, value_at), name)
        yield Conditional(self._value(group, rest, value_at))

    def _value(self, group: int, tail: str, value_at: Callable[[str], float]) -> Scalar | tuple[Scalar, ...]:
        if self._points:
            return tuple(value_at(stem + tail) for stem in self._stems())
        return value_at(f"g{group}{tail}")

    def _tail_of(self, tensor: str) -> str:
        matches = (f".{name}" for name in self._filters if name in tensor)
        return next(matches, self._tails()[-1])


def _split(layers: int, count: int) -> list[tuple[int, int]]:
    """``count`` runs of consecutive layers with lengths as equal as possible, as [start, stop)."""
    bounds = [round(index * layers / count) for index in range(count + 1)]
    return list(itertools.pairwise(bounds))

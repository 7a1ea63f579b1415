"""Places: the parts of a model in which a parameter may have a value of its own.

Layer groups are slices of a recipe. Filters are conditions on tensor names inside a slice. A gradient is one
slice whose values mergekit interpolates over the layers. Embeddings belong to the first layers, and the final
norm and head to the last layers, unless the plan makes them, or all norms, separate places.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import PlanError
from ..plan import WeightsPlan
from ..recipe import Conditional, Scalar, Setting

_REST = "rest"  # the tensors that match no filter


@dataclass(frozen=True)
class Parts:
    """Parts of a model, as substrings of tensor names: before the layers, after the layers, and norms."""

    embed: tuple[str, ...]
    head: tuple[str, ...]
    norm: tuple[str, ...]


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

"""Places: where in the model a parameter may have a value of its own, as layer groups, filters and ends.

Layer groups are slices of a recipe, filters are conditions on tensor names inside a slice. Embeddings go
with the first group and final norm and head with the last, or, with ``ends: own``, are places of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from ..errors import PlanError
from ..plan import WeightsPlan
from ..recipe import Conditional, Setting

Ends = tuple[tuple[str, ...], tuple[str, ...]]
_REST = "rest"  # the tensors that no filter names


class Places:
    """The places of a plan over ``layers`` layers. ``ends`` names the tensors before and after them.

    ``groups`` are the layer groups as [start, stop); ``names`` are the places', as they appear in genes:
    ``g0``, ``g0.self_attn``, ``g0.rest``, and ``embed`` and ``head``.
    """

    def __init__(self, plan: WeightsPlan, layers: int, ends: Ends) -> None:
        if plan.layer_groups > layers:
            raise PlanError(f"space.weights.layer_groups: {plan.layer_groups} for {layers} layers")
        self.groups = _split(layers, plan.layer_groups)
        self._filters = plan.filters
        self._ends = ends if plan.ends == "own" else None
        rows = [name for group in range(len(self.groups)) for name in self._of_group(group)]
        self.names: Sequence[str] = ["embed", *rows, "head"] if self._ends else rows

    def setting(self, group: int, value_at: Callable[[str], float]) -> Setting:
        """A parameter's setting in one group's slice, from its values by place name."""
        rows = tuple(self._conditions(group, value_at))
        return rows[0].value if len(rows) == 1 and rows[0].filter is None else rows

    def _of_group(self, group: int) -> list[str]:
        if not self._filters:
            return [f"g{group}"]
        return [f"g{group}.{name}" for name in (*self._filters, _REST)]

    def _conditions(self, group: int, value_at: Callable[[str], float]) -> Iterator[Conditional]:
        """Values by filter, the first match winning: the ends that the slice carries, filters, the rest."""
        before, after = self._ends or ((), ())
        if group == 0:
            yield from (Conditional(value_at("embed"), name) for name in before)
        if group == len(self.groups) - 1:
            yield from (Conditional(value_at("head"), name) for name in after)
        *named, rest = self._of_group(group)
        for place, name in zip(named, self._filters, strict=True):
            yield Conditional(value_at(place), name)
        yield Conditional(value_at(rest))


def _split(layers: int, count: int) -> list[tuple[int, int]]:
    """``count`` runs of consecutive layers, as equal as can be, as [start, stop)."""
    bounds = [round(index * layers / count) for index in range(count + 1)]
    return list(itertools.pairwise(bounds))

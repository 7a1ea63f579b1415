"""Encodings of paths: from genes to a list of layers, each a layer of some parent.

Each encoding has ``genes``; ``places``, in path order; ``read``, from a genome to a path that is never deeper
than the plan allows; and ``write``, the inverse of ``read``, which returns None for a path that the encoding
cannot express. The seeds of a search get their genes from ``write``.

Slots are the encoding of Akiba et al., 2403.13187, section 3.2: all layers of all parents, ``repeats`` times
in a row, each with an indicator. Most genomes of this encoding jump between depths. Steps exclude such jumps
(compare 2605.12326, which found structured paths to be better and their space half as large).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from ..errors import PlanError
from ..plan import LayersPlan
from .choice import Genome

_LIKELY, _UNLIKELY = 0.5 + 2 / 6, 0.5 - 2 / 6  # two of CMA-ES's initial standard deviations (1/6) from 0.5
_SKIP = "-"
_MOST_OPTIONS = 500


class Step(NamedTuple):
    """One layer of a path, and the place in the encoding that produced it."""

    parent: str
    layer: int
    place: str


Layers = Sequence[tuple[str, int]]


class Slots:
    """An indicator in [0, 1] for each layer of each parent in each pass. Above 0.5 the layer is selected.

    If too many or too few layers exceed 0.5, the layers with the largest indicators are selected.
    """

    def __init__(self, plan: LayersPlan, depths: Mapping[str, int]) -> None:
        self._fewest, self._most = plan.depth
        self._slots = [
            Step(parent, layer, f"{parent}.{layer}.{turn}")
            for turn in range(plan.repeats)
            for parent, depth in depths.items()
            for layer in range(depth)
        ]
        self.places = [slot.place for slot in self._slots]
        self.genes: dict[str, BaseDistribution] = {
            f"in.{place}": FloatDistribution(0.0, 1.0) for place in self.places
        }

    def read(self, genome: Genome) -> list[Step]:
        """The selected slots, in slot order."""
        values = [float(genome[f"in.{slot.place}"]) for slot in self._slots]
        ranked = sorted(range(len(values)), key=lambda place: -values[place])
        wanted = sum(value > 0.5 for value in values)
        chosen = ranked[: min(max(wanted, self._fewest), self._most)]
        return [self._slots[place] for place in sorted(chosen)]

    def write(self, path: Layers) -> dict[str, object] | None:
        """The path's layers in the first slots that match in order; None if there are no such slots."""
        genome: dict[str, object] = dict.fromkeys(self.genes, _UNLIKELY)
        slots = iter(self._slots)
        for parent, layer in path:
            slot = next((slot for slot in slots if (slot.parent, slot.layer) == (parent, layer)), None)
            if slot is None:
                return None
            genome[f"in.{slot.place}"] = _LIKELY
        return genome


class Slices:
    """At most ``slices`` runs of consecutive layers, each from a start to a stop layer of one parent.

    A run is empty if its stop is not above its start. While a path is too deep, its longest run
    loses its last layer.
    """

    def __init__(self, plan: LayersPlan, depths: Mapping[str, int]) -> None:
        self._most, self._depths = plan.depth[1], depths
        deepest = float(max(depths.values()))
        self.places = [str(place) for place in range(plan.slices)]
        self.genes: dict[str, BaseDistribution] = {}
        for place in self.places:
            self.genes[f"slice.{place}.parent"] = CategoricalDistribution(tuple(depths))
            for end in ("start", "stop"):
                self.genes[f"slice.{place}.{end}"] = FloatDistribution(0.0, deepest)

    def read(self, genome: Genome) -> list[Step]:
        """The layers of all runs, one run after the other."""
        runs = [self._run(genome, place) for place in self.places]
        while sum(map(len, runs)) > self._most:
            max(runs, key=len).pop()
        return list(itertools.chain.from_iterable(runs))

    def write(self, path: Layers) -> dict[str, object] | None:
        """One run for each run of the path, the others empty; None if the path has too many runs."""
        runs = _runs(path)
        if len(runs) > len(self.places):
            return None
        genome: dict[str, object] = {}
        for place in self.places:
            parent, start, stop = runs.pop(0) if runs else (next(iter(self._depths)), 0, 0)
            genome |= {f"slice.{place}.parent": parent}
            genome |= {f"slice.{place}.start": float(start), f"slice.{place}.stop": float(stop)}
        return genome

    def _run(self, genome: Genome, place: str) -> list[Step]:
        parent = str(genome[f"slice.{place}.parent"])
        start, stop = (round(float(genome[f"slice.{place}.{end}"])) for end in ("start", "stop"))
        return [Step(parent, layer, place) for layer in range(start, min(stop, self._depths[parent]))]


class Steps:
    """At each depth, the parents whose layers of that depth follow each other: none, one or several.

    While a path is too deep, the last of the longest steps loses its last layer.
    """

    def __init__(self, plan: LayersPlan, depths: Mapping[str, int]) -> None:
        self._most = plan.depth[1]
        self.places = [str(depth) for depth in range(max(depths.values()))]
        self.genes: dict[str, BaseDistribution] = {}
        for place in self.places:
            names = [name for name, depth in depths.items() if int(place) < depth]
            turns = (itertools.product(names, repeat=count) for count in range(1, plan.repeats + 1))
            options = ["+".join(turn) for turn in itertools.chain.from_iterable(turns)]
            if len(options) > _MOST_OPTIONS:
                raise PlanError(
                    f"space.layers.repeats: {plan.repeats} with {len(names)} parents gives {len(options)} "
                    f"choices at each depth, more than {_MOST_OPTIONS}; choose fewer repeats"
                )
            self.genes[f"step.{place}"] = CategoricalDistribution((*options, _SKIP))

    def read(self, genome: Genome) -> list[Step]:
        """The layers of all steps, from the first depth to the last."""
        turns = {place: self._turn(str(genome[f"step.{place}"])) for place in self.places}
        while sum(map(len, turns.values())) > self._most:
            longest = max(len(turn) for turn in turns.values())
            last = [place for place, turn in turns.items() if len(turn) == longest][-1]
            turns[last].pop()
        return [Step(parent, int(place), place) for place, turn in turns.items() for parent in turn]

    def write(self, path: Layers) -> dict[str, object] | None:
        """The path's layers by depth; None if the path goes back or a step is not an option."""
        depths = [depth for _, depth in path]
        if depths != sorted(depths):
            return None
        genome: dict[str, object] = {}
        for place in self.places:
            turn = "+".join(parent for parent, depth in path if depth == int(place)) or _SKIP
            gene = self.genes[f"step.{place}"]
            assert isinstance(gene, CategoricalDistribution)
            if turn not in gene.choices:
                return None
            genome[f"step.{place}"] = turn
        return genome

    @staticmethod
    def _turn(option: str) -> list[str]:
        return [] if option == _SKIP else option.split("+")


Encoding = Slots | Slices | Steps


def encoding(plan: LayersPlan, depths: Mapping[str, int]) -> Encoding:
    """The plan's encoding for parents of these depths."""
    kinds: dict[str, type[Slots] | type[Slices] | type[Steps]]
    kinds = {"slots": Slots, "slices": Slices, "steps": Steps}
    return kinds[plan.encoding](plan, depths)


def _runs(path: Layers) -> list[tuple[str, int, int]]:
    """Consecutive layers of one parent as (parent, start, stop)."""
    runs: list[tuple[str, int, int]] = []
    for parent, layer in path:
        if runs and runs[-1][0] == parent and runs[-1][2] == layer:
            runs[-1] = (parent, runs[-1][1], layer + 1)
        else:
            runs.append((parent, layer, layer + 1))
    return runs

"""The choices of a genome, and a record of which genes were read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..recipe.methods import Method

Genome = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """The choices of a genome: its method, the separate base if any, and the parents with parameters.

    ``inputs`` are the parents with parameters, ``pool`` all parents in order.
    """

    genome: Genome
    method: Method
    base: str | None
    inputs: Sequence[str]
    pool: Sequence[str]

    def sources(self, group: int) -> list[str]:
        """The names of a slice's sources, base included.

        A pair keeps its own order. Other parents are in the pool's order.
        """
        if self.method.most == 1:
            return [self.genome[f"only.g{group}"]]
        if self.method.most == 2:
            return [*([self.base] if self.base else []), *self.inputs]
        return [name for name in self.pool if name in self.inputs or name == self.base]


class Reader(Mapping[str, Any]):
    """A genome that records which of its genes were read."""

    def __init__(self, genome: Genome) -> None:
        self._genome = genome
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self._genome[name]
        self.read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._genome  # Mapping's default would record a read

    def __iter__(self) -> Iterator[str]:
        return iter(self._genome)

    def __len__(self) -> int:
        return len(self._genome)

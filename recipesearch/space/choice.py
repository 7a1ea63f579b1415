"""What a genome chose, and which of its genes were asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..recipe.methods import Method

Genome = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """What a genome chose: its method, the base apart if any, and the parents that have parameters."""

    genome: Genome
    method: Method
    base: str | None
    inputs: Sequence[str]
    pool: Sequence[str]

    def sources(self, group: int) -> list[str]:
        """A slice's sources by name: a pair in its own order, all others in the pool's, the base included."""
        if self.method.most == 1:
            return [self.genome[f"only.g{group}"]]
        if self.method.most == 2:
            return [*([self.base] if self.base else []), *self.inputs]
        return [name for name in self.pool if name in self.inputs or name == self.base]


class Reader(Mapping[str, Any]):
    """A genome that notes which genes were read."""

    def __init__(self, genome: Genome) -> None:
        self._genome = genome
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self._genome[name]
        self.read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._genome  # Mapping's own would count as reading

    def __iter__(self) -> Iterator[str]:
        return iter(self._genome)

    def __len__(self) -> int:
        return len(self._genome)

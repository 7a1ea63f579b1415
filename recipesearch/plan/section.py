"""The base of every section of the study file: frozen, and without unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, FiniteFloat

Range = tuple[FiniteFloat, FiniteFloat]


class Section(BaseModel):
    """A part of the study file."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class BadKey(ValueError):
    """A section's key that is unknown or has an invalid value, for keys that the section checks itself."""

    def __init__(self, key: str, problem: str, *, unknown: bool = False) -> None:
        super().__init__(problem)
        self.key, self.unknown = key, unknown

"""The mutants of a database's studies: how each was made, and whether it was accepted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from .outage import patiently
from .storage import METADATA, Database, insert_new

_MUTANTS = sa.Table(
    "recipesearch_mutants",
    METADATA,
    sa.Column("key", sa.String(32), primary_key=True),
    sa.Column("study", sa.String(250), nullable=False),
    sa.Column("trial", sa.Integer, nullable=True),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("accepted", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("record", sa.JSON, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True)
class Mutant:
    """One judged mutation: its study and trial, the digests of source and mutant, and the gate's decision.

    ``record`` contains the training settings, the training's outcome and the gate's measurements.
    """

    key: str
    study: str
    trial: int | None
    source: str
    digest: str
    accepted: bool
    reason: str
    record: Mapping[str, Any]


class Mutants:
    """The table of mutants in one database. Reading creates nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, mutant: Mutant) -> None:
        """Writes a mutant; an existing row of the same key stays unchanged."""
        patiently(lambda: METADATA.create_all(self._database.engine))
        row = {**asdict(mutant), "at": datetime.now(UTC)}
        self._database.write(
            lambda connection: connection.execute(insert_new(connection, _MUTANTS).values(row))
        )

    def get(self, key: str) -> Mutant | None:
        """The mutant of a key; None if the gate has not judged one."""
        return next(iter(self._where(_MUTANTS.c.key == key)), None)

    def of(self, *studies: str) -> list[Mutant]:
        """All mutants of these studies, oldest first."""
        return self._where(_MUTANTS.c.study.in_(studies))

    def among(self, digests: Collection[str]) -> dict[str, Mutant]:
        """The mutants with these digests, by digest."""
        return {mutant.digest: mutant for mutant in self._where(_MUTANTS.c.digest.in_(list(digests)))}

    def _where(self, condition: sa.ColumnElement[bool]) -> list[Mutant]:
        if not self._database.read(lambda connection: sa.inspect(connection).has_table(_MUTANTS.name)):
            return []
        columns = [_MUTANTS.c[field.name] for field in fields(Mutant)]
        query = sa.select(*columns).where(condition).order_by(_MUTANTS.c.at, _MUTANTS.c.key)
        return [Mutant(*row) for row in self._database.rows(query)]

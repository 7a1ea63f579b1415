"""The mutants of a database's studies: how each was made, and whether it was let in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .ledger import METADATA

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
    """One mutation: the study and trial it started from, the digests of both parents, the gate's decision.

    ``record`` is what was trained, how, and the numbers that the gate decided by.
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
    """The table of mutants in one database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        METADATA.create_all(engine)

    def add(self, mutant: Mutant) -> None:
        """Writes a mutant down; one that is there already stays as it is."""
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        row = {**asdict(mutant), "at": datetime.now(UTC)}
        with self._engine.begin() as connection:
            connection.execute(insert(_MUTANTS).values(row).on_conflict_do_nothing())

    def get(self, key: str) -> Mutant | None:
        """The mutant of a key, if it has been judged."""
        return next(iter(self._where(_MUTANTS.c.key == key)), None)

    def of(self, study: str) -> list[Mutant]:
        """All mutants that started from a study's trials, oldest first."""
        return self._where(_MUTANTS.c.study == study)

    def among(self, digests: Collection[str]) -> dict[str, Mutant]:
        """The mutants among the models with these digests, by digest."""
        return find_mutants(self._engine, digests)

    def _where(self, condition: sa.ColumnElement[bool]) -> list[Mutant]:
        return _find(self._engine, condition)


def find_mutants(engine: sa.Engine, digests: Collection[str]) -> dict[str, Mutant]:
    """The mutants among the models with these digests, by digest. Creates nothing: it is for looking."""
    return {mutant.digest: mutant for mutant in _seen(engine, _MUTANTS.c.digest.in_(list(digests)))}


def mutants_of(engine: sa.Engine, studies: Collection[str]) -> list[Mutant]:
    """All mutants that started from trials of these studies, oldest first. Creates nothing."""
    return _seen(engine, _MUTANTS.c.study.in_(list(studies)))


def _seen(engine: sa.Engine, condition: sa.ColumnElement[bool]) -> list[Mutant]:
    return _find(engine, condition) if sa.inspect(engine).has_table(_MUTANTS.name) else []


def _find(engine: sa.Engine, condition: sa.ColumnElement[bool]) -> list[Mutant]:
    columns = [_MUTANTS.c[field.name] for field in fields(Mutant)]
    query = sa.select(*columns).where(condition).order_by(_MUTANTS.c.at, _MUTANTS.c.key)
    with engine.connect() as connection:
        return [Mutant(*row) for row in connection.execute(query)]

"""Databases for the tests of the tables."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from recipesearch.study.storage import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind; recipesearch's own tables are dropped at the end."""
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/study.db" if sqlite else request.getfixturevalue("postgres")
    database = Database(url)
    yield database
    if not sqlite:
        names = sa.inspect(database.engine).get_table_names()
        own = [name for name in names if "recipesearch" in name]
        with database.engine.begin() as connection:
            connection.exec_driver_sql(f"drop table {', '.join(own)} cascade")
    database.engine.dispose()

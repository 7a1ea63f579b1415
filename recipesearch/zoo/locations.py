"""Where a zoo is on disk, and the paths of ``zoo:`` references. Trains nothing."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import PlanError
from ..files import cache_dir
from .definition import FILES, STAGES, TASKS, Definition

_REFERENCE = re.compile(r"zoo(?:@(?P<seed>[^:/]*))?:(?P<name>.*)", re.DOTALL)
_SEED = re.compile(r"[0-9]{1,9}")


def zoo_dir(seed: int = 0) -> Path:
    """The absolute cache folder of one zoo (see `files.cache_dir`). The folder may not exist yet."""
    return cache_dir() / "zoo" / f"{Definition().digest()}-s{seed}"


def task_files() -> list[str]:
    """The stems of all task files, such as ``addition_b_search``."""
    return [f"{task}_{file}" for task in TASKS for file in FILES]


def resolve(reference: str) -> Path | None:
    """The path of a reference such as ``zoo:math`` or ``zoo@1:tasks/addition_b_search.yaml``.

    The path may not exist yet. Returns None for a string that is not a zoo reference. Raises `PlanError` for
    an unknown name, and for a seed that is not a whole number.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    seed = match["seed"] if match["seed"] is not None else "0"
    if not _SEED.fullmatch(seed):
        raise PlanError(f"{reference!r}: the zoo's seed must be a whole number, as in zoo@1:math")
    known = [*STAGES, *(f"tasks/{stem}.yaml" for stem in task_files())]
    data = [f"tasks/{stem}.jsonl" for stem in task_files()]
    if match["name"] not in known + data:
        raise PlanError(f"{reference!r}: the zoo has no {match['name']!r}; it has {', '.join(known)}")
    return zoo_dir(int(seed)) / match["name"]

"""Ends process groups, and removes the processes and shared-memory segments of dead workers.

Standard library only. Reads ``/proc``. Without ``/proc`` (macOS) a group is killed as a whole, and its
segments are left to the system.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..processes import alive, own_mark, stat

MARK = "RECIPESEARCH_WORKER"  # environment variable of a worker: the process that started it
_PROC, _SHARED = Path("/proc"), "/dev/shm/"
# The segment names of Python, torch, vLLM and NCCL. Other files there belong to users, perhaps as parents.
_SEGMENT = re.compile(r"(psm_|sem\.|torch_|vllm|nccl-)[^/]*")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GONE_SECONDS = 20.0


def die_with_parent() -> None:
    """Makes Linux kill this process when its parent ends. Exits if the parent has ended already."""
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Makes this process, instead of init, the new parent of its descendants' orphaned children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_group(group: int, spare: int | None = None) -> None:
    """Kills all processes of a group except ``spare``, waits for their end, and removes their shared memory.

    Segments that other processes still use stay.
    """
    if not _PROC.is_dir():
        if spare is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        return
    until, segments = time.monotonic() + _GONE_SECONDS, set[str]()
    while (members := _members(group, spare)) and time.monotonic() < until:
        segments |= shared_memory(members)
        for process in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        _reap(group)
        time.sleep(0.01)
    _remove(segments)


def group_memory(group: int) -> set[str]:
    """The shared-memory files that a group's processes have mapped."""
    return shared_memory(_members(group, None))


def shared_memory(processes: Iterable[int]) -> set[str]:
    """The shared-memory files that some processes have mapped."""
    found = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for line in os.fsdecode((_PROC / str(process) / "maps").read_bytes()).split("\n"):
                name = line.partition(f" {_SHARED}")[2]
                if _SEGMENT.fullmatch(name) and not name.endswith(" (deleted)"):
                    found.add(_SHARED + name)
    return found


def write_record(folder: Path, group: int) -> None:
    """Records a group and its segments, so that the next start can clean up if supervisor and guard are both
    killed."""
    record = _record(folder, group)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"group": group, "mark": own_mark(), "segments": sorted(group_memory(group))}
    temporary = record.with_suffix(".partial")
    temporary.write_text(json.dumps(content))
    temporary.replace(record)


def drop_record(folder: Path, group: int) -> None:
    """Removes an ended group's record, and the segments listed there: a crashed worker has no mappings."""
    record = _record(folder, group)
    _remove(_read(record).get("segments", ()))
    record.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Ends the groups recorded in ``folder`` whose supervisors have ended, and removes their remains."""
    for record in folder.glob("*.json"):
        content = _read(record)
        if not content or alive(content["mark"]):
            continue
        group = content["group"]
        if any(_marked(process, content["mark"]) for process in _members(group, None)):
            end_group(group)
        drop_record(folder, group)


def _record(folder: Path, group: int) -> Path:
    return folder / f"{group}.json"


def _read(record: Path) -> dict[str, Any]:
    """A record's content; empty if the record cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        content: dict[str, Any] = json.loads(record.read_text())
        return content
    return {}


def _members(group: int, spare: int | None) -> list[int]:
    """The group's processes without zombies, which have released their memory."""
    found = []
    for entry in _PROC.glob("[0-9]*"):
        fields = stat(int(entry.name))
        if fields and int(fields[2]) == group and fields[0] != "Z" and int(entry.name) != spare:
            found.append(int(entry.name))
    return found


def _marked(process: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in (_PROC / str(process) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _remove(segments: Iterable[str]) -> None:
    wanted = set(segments)
    if wanted:
        wanted -= shared_memory(int(entry.name) for entry in _PROC.glob("[0-9]*"))
    for path in wanted:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _reap(group: int) -> None:
    """Collects the exit status of those members of the group that are children of this process."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)

"""Which process it is that owns something, and whether it still lives. Standard library only.

Reads ``/proc``; where there is none (macOS) a number that is used again counts as the process that had it.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def own_mark() -> str:
    """This process's mark: its number and its start, since numbers are used again."""
    fields = stat(os.getpid())
    return f"{os.getpid()}-{fields[19] if fields else ''}"


def alive(mark: str) -> bool:
    """Whether the process of a mark, one of this host, has not ended. A zombie has."""
    process, _, started = mark.partition("-")
    if _PROC.is_dir():
        fields = stat(int(process))
        return bool(fields) and fields[0] != "Z" and fields[19] == started
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def stat(process: int) -> list[str]:
    """The fields of /proc/N/stat after the name: state, parent, group...; empty if there is no such."""
    try:
        # Bytes: a name is cut after fifteen of them, within a letter too.
        return os.fsdecode((_PROC / str(process) / "stat").read_bytes()).rpartition(")")[2].split()
    except OSError:
        return []

"""Marks that identify a process, and whether a marked process is still running. Standard library only.

Reads ``/proc``. Without it (macOS) a process number that was reused counts as the original process.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def own_mark() -> str:
    """This process's mark, ``PID-START``: process number and start time, because numbers are reused."""
    fields = stat(os.getpid())
    return f"{os.getpid()}-{fields[19] if fields else ''}"


def alive(mark: str) -> bool:
    """Whether the process with this mark is still running on this host. A zombie is not."""
    process, _, started = mark.partition("-")
    if _PROC.is_dir():
        fields = stat(int(process))
        return bool(fields) and fields[0] != "Z" and fields[19] == started
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    return True


def stat(process: int) -> list[str]:
    """The fields of ``/proc/N/stat`` after the name: state, parent, group and so on.

    Empty if there is no such process.
    """
    try:
        # Read as bytes: a name is cut after 15 bytes, possibly inside a character.
        return os.fsdecode((_PROC / str(process) / "stat").read_bytes()).rpartition(")")[2].split()
    except OSError:
        return []

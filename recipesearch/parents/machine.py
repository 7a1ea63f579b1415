"""What this machine has: GPUs, cores, and the memory left on CPUs and GPUs.

Light: reads /proc, cgroups and nvidia-smi.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")

# Files of a cgroup: its limit and its use; and the prefix of lines in memory.stat that include its children.
_CGROUP_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
_CGROUP_2 = ("memory.max", "memory.current", "")


def available(device: str, ranks: int = 1) -> int | None:
    """The bytes available now on ``cpu``, ``cuda`` or ``auto``; None if that cannot be determined.

    On a CPU this is the minimum over the system and the process's cgroups, and cached files count as free. On
    GPUs it is the free memory of the ``ranks`` GPUs with the most free memory.
    """
    return _left_on_cpu() if resolved(device) == "cpu" else _left_on_gpus(ranks)


def resolved(device: str) -> str:
    """``auto`` becomes ``cuda`` if nvidia-smi shows a GPU, else ``cpu``."""
    if device != "auto":
        return device
    return "cuda" if _free_on_gpus() else "cpu"


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count, visible = len(_free_on_gpus()), os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(place) for place in range(count)]


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _left_on_gpus(ranks: int) -> int | None:
    free = _free_on_gpus()
    if not free or not all(size.isdigit() for size in free):
        return None
    return sum(sorted(int(size) << 20 for size in free)[-ranks:])


def _free_on_gpus() -> list[str]:
    """The free MiB of each GPU visible to torch, as nvidia-smi prints it, which may not be a number."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "":
        return []
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    query += ["-i", visible] if visible else []
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.splitlines() if line.strip()]


def _left_on_cpu() -> int | None:
    system = re.search(r"^MemAvailable:\s+(\d+) kB", _text(PROC / "meminfo"), re.MULTILINE)
    return min([int(system[1]) << 10, *_left_in_cgroups()]) if system else None


def _left_in_cgroups() -> Iterator[int]:
    """The bytes that each limited cgroup of this process still allows.

    Includes the process's own cgroup and all its ancestors, because a limit applies to everything below. In a
    container the process's own cgroup may only be visible as the root of the tree, whatever its path.
    """
    for line in _text(PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (CGROUPS / "memory", _CGROUP_1) if controllers else (CGROUPS, _CGROUP_2)
        place = PurePosixPath(path.lstrip("/"))
        for folder in (place, *place.parents):
            yield from _left_in(root / folder, *names)


def _left_in(cgroup: Path, limit: str, use: str, below: str) -> Iterator[int]:
    """The bytes left in a cgroup; nothing if the cgroup has no limit."""
    allowed, used = _text(cgroup / limit).strip(), _text(cgroup / use).strip()
    if allowed.isdigit() and used.isdigit():
        # Cached files count as used until the memory is needed.
        cached = re.findall(rf"^{below}(?:in)?active_file (\d+)", _text(cgroup / "memory.stat"), re.MULTILINE)
        yield max(0, int(allowed) - int(used) + sum(map(int, cached)))


def _text(path: Path) -> str:
    """A file's text; empty if the file cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""

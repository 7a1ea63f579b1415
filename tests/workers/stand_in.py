"""A worker process without an engine: it does what the recipe, here a text, tells it to. Light.

    python stand_in.py FOLDER CHANNEL

It speaks the protocol of workers/worker_process.py and answers ([what it did], its process number).
``FOLDER/order`` keeps the order that it was started with, ``FOLDER/segments`` the shared memory that it made;
``FOLDER/start``, if it is there, says what it does instead of standing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

from recipesearch import errors
from recipesearch.workers.remains import die_with_parent

_DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(flush=True)
time.sleep(999)
"""
_KEPT: list[Any] = []


def main() -> None:
    """Serves one supervisor until it hangs up."""
    die_with_parent()
    folder, channel = Path(sys.argv[1]), Connection(int(sys.argv[2]))
    (folder / "order").write_bytes(channel.recv_bytes())
    start = folder / "start"
    channel.send(do(start.read_text()) if start.exists() else "its conditions")
    while True:
        _, told, *_ = channel.recv()
        done = do(told)
        channel.send(done if isinstance(done, Exception) else ([done], os.getpid()))
        if isinstance(done, errors.WorkerLost):
            sys.exit(1)


def do(told: str) -> object:
    """Does what it is told; what comes of it is sent."""
    verb, _, detail = told.partition(" ")
    if verb == "signal":
        os.kill(os.getpid(), getattr(signal, detail))
    elif verb == "exit":
        print("some words", "the last words", "", sep="\n", flush=True)
        os._exit(int(detail))
    elif verb == "silently":
        os._exit(int(detail))
    elif verb == "children":
        return [subprocess.Popen(["sleep", "999"]).pid, _deaf_child()]
    elif verb == "map":
        return map_segment()
    elif verb == "raise":
        kind, _, message = detail.partition(" ")
        return getattr(errors, kind)(message)
    return told


def map_segment() -> str:
    """The path of a new shared-memory file that this process has mapped and nobody will clean up."""
    segment = SharedMemory(create=True, size=4096)
    resource_tracker.unregister(segment._name, "shared_memory")  # type: ignore[attr-defined]
    _KEPT.append(segment)
    with (Path(sys.argv[1]) / "segments").open("a") as file:
        file.write(f"/dev/shm/{segment.name}\n")
    return f"/dev/shm/{segment.name}"


def _deaf_child() -> int:
    """The number of a child that ignores SIGTERM."""
    child = subprocess.Popen([sys.executable, "-c", _DEAF], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    return child.pid


if __name__ == "__main__":
    main()

"""The guard: leads a worker's process group, and ends all of it when the supervisor is gone.

    python -m recipesearch.workers.guard LIFELINE CHANNEL RECORDS COMMAND...

``LIFELINE`` is the reading end of a pipe whose other end only the supervisor holds: it closes however that
ends, by ``kill -9`` too. ``RECORDS`` is the folder with the group's record, which goes with the group. Exits
as the worker did, with 128 + N if signal N ended it. Standard library only: it must stand before anything
else does, and nothing that breaks a worker may break it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from .remains import adopt_orphans, drop_record, end_group

_ENDING = threading.Lock()  # the worker's end, which ending the group causes, must not cut that short


def main() -> None:
    """Runs COMMAND with the channel's number appended, in this process's group."""
    lifeline, channel, records, command = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:]
    adopt_orphans()
    worker = subprocess.Popen([*command, channel], pass_fds=[int(channel)], stdin=subprocess.DEVNULL)
    os.close(int(channel))
    threading.Thread(target=_watch, args=(lifeline, records), daemon=True).start()
    status = worker.wait()
    _end(records, status if status >= 0 else 128 - status)  # with the worker's own children


def _watch(lifeline: int, records: Path) -> None:
    os.read(lifeline, 1)  # nothing is ever written
    _end(records, 0)


def _end(records: Path, status: int) -> None:
    with _ENDING:
        end_group(os.getpgrp(), spare=os.getpid())
        drop_record(records, os.getpgrp())  # a worker that has just ended can show nothing
        os._exit(status)


if __name__ == "__main__":
    main()

"""The guard: leads a worker's process group, and ends the whole group when the supervisor ends.

    python -m recipesearch.workers.guard LIFELINE CHANNEL RECORDS COMMAND...

``LIFELINE`` is the reading end of a pipe whose other end only the supervisor has: the pipe closes when the
supervisor ends, even by ``kill -9``. ``RECORDS`` is the folder with the group's record, which the guard
removes with the group. Exits with the worker's exit code, or with 128 + N if signal N ended the worker.
Standard library only: the guard must start before everything else, and nothing that breaks a worker may break
it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from .remains import adopt_orphans, drop_record, end_group

# Killing the group ends the worker, and then main must not exit before the clean-up is complete.
_ENDING = threading.Lock()


def main() -> None:
    """Runs COMMAND with the channel's number appended, in this process's group."""
    lifeline, channel, records, command = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:]
    adopt_orphans()
    worker = subprocess.Popen([*command, channel], pass_fds=[int(channel)], stdin=subprocess.DEVNULL)
    os.close(int(channel))
    threading.Thread(target=_watch, args=(lifeline, records), daemon=True).start()
    status = worker.wait()
    _end(records, status if status >= 0 else 128 - status)  # also ends the worker's children


def _watch(lifeline: int, records: Path) -> None:
    os.read(lifeline, 1)  # nothing is ever written
    _end(records, 0)


def _end(records: Path, status: int) -> None:
    with _ENDING:
        end_group(os.getpgrp(), spare=os.getpid())
        drop_record(records, os.getpgrp())  # an ended worker has no mappings; the record has
        os._exit(status)


if __name__ == "__main__":
    main()

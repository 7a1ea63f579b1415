"""The guard: leads a worker's process group, and ends all of it when the supervisor is gone.

    python -m recipesearch.workers.guard LIFELINE CHANNEL COMMAND...

``LIFELINE`` is the reading end of a pipe whose other end only the supervisor holds: it closes however that
ends, by ``kill -9`` too. Exits as the worker did, with 128 + N if signal N ended it. Standard library only:
it must stand before anything else does, and nothing that breaks a worker may break it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from .remains import adopt_orphans, end_group

_ENDING = threading.Lock()  # the worker's end, which ending the group causes, must not cut that short


def main() -> None:
    """Runs COMMAND with the channel's number appended, in this process's group."""
    lifeline, channel, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    adopt_orphans()
    worker = subprocess.Popen([*command, channel], pass_fds=[int(channel)], stdin=subprocess.DEVNULL)
    os.close(int(channel))
    threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()
    status = worker.wait()
    _end(status if status >= 0 else 128 - status)  # with the worker's own children


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)  # nothing is ever written
    _end(0)


def _end(status: int) -> None:
    with _ENDING:
        end_group(os.getpgrp(), spare=os.getpid())
        os._exit(status)


if __name__ == "__main__":
    main()

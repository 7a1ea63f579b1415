"""Runs a Worker in a process of its own: receives recipes and sends scores over one socket.

    python -m recipesearch.workers.worker_process CHANNEL

``CHANNEL`` is the file descriptor of a socket to the supervisor. The first message in is a WorkerOrder, the
first message out is Ready, or the error with which the worker failed to start. Every further message in names
a method of Worker and its arguments; the answer is the method's result or the error that it raised. After
WorkerLost the process ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from ..errors import RecipeSearchError, StudyError, WorkerLost
from .remains import die_with_parent
from .worker import Worker, cause


def main() -> None:
    """Serves one supervisor until it closes the connection."""
    die_with_parent()
    faulthandler.enable()  # a crash leaves its stack in the log
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    channel: Connection[Any, Any] = Connection(int(sys.argv[1]))
    order = channel.recv()
    try:
        worker = Worker(order)
    except Exception as error:
        traceback.print_exc()  # first: the supervisor kills this process when it receives the error
        known = isinstance(error, RecipeSearchError)
        channel.send(error if known else StudyError(f"the worker failed to start: {cause(error)}"))
        sys.exit(1)
    channel.send(worker.ready)
    with worker, contextlib.suppress(EOFError):
        while True:
            method, *arguments = channel.recv()
            try:
                channel.send(getattr(worker, method)(*arguments))
            except RecipeSearchError as failure:
                if isinstance(failure, WorkerLost):
                    traceback.print_exc()
                channel.send(failure)
                if isinstance(failure, WorkerLost):
                    return


if __name__ == "__main__":
    main()

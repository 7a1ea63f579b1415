"""A training in a process of its own, which receives its order and sends its result over one socket.

    python -m recipesearch.mutation.training_process CHANNEL

``CHANNEL`` is the file descriptor of a socket to the supervisor. The process receives one TrainingOrder and
sends Trained, or the error with which the training failed.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from ..errors import RecipeSearchError, StudyError
from ..files import cache_dir
from ..workers.group import Group
from ..workers.remains import die_with_parent
from .training_order import Trained, TrainingOrder

COMMAND = (sys.executable, "-m", "recipesearch.mutation.training_process")
_HINT = "; lower mutation.batch, mutation.max_length or mutation.rank"
_SECONDS = 7 * 24 * 3600.0


def train_apart(order: TrainingOrder) -> Trained:
    """Trains in a process group of its own, which ends when this process ends, even by a kill.

    Raises StudyError with the cause if the training fails. An interrupted training leaves no adapter.
    """
    log = cache_dir() / "logs" / f"mutant-{order.target.name}.log"
    group = Group(COMMAND, order, log)
    try:
        answer = group.receive(_SECONDS, f"no adapter within {_SECONDS / 3600:.0f} h")
    except RecipeSearchError as failure:
        raise StudyError(f"the training of {order.target.name} failed: {failure}") from failure
    finally:
        group.close()
    if isinstance(answer, Exception):
        raise answer
    return answer  # type: ignore[no-any-return]


def main() -> None:
    """Executes the one order of a supervisor."""
    die_with_parent()
    faulthandler.enable()
    # trl refuses to train with several visible GPUs. Must be set before torch counts the GPUs.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.partition(",")[0]
    channel: Connection[Any, Any] = Connection(int(sys.argv[1]))
    order = channel.recv()
    from ..workers.worker import cause, is_out_of_memory

    try:
        from .training import train

        channel.send(train(order))
    except RecipeSearchError as error:
        channel.send(error)
    except Exception as error:
        traceback.print_exc()
        hint = _HINT if is_out_of_memory(error) else ""
        channel.send(StudyError(f"the training failed: {cause(error)}{hint}"))


if __name__ == "__main__":
    main()

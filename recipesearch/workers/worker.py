"""Worker: one engine and the tasks' requests, which are shared by all candidates."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from ..engines.opening import gpu_name, open_engine
from ..errors import (
    MachineFault,
    PlanError,
    RecipeSearchError,
    RefusedInput,
    StudyError,
    TrialFailed,
    WorkerLost,
)
from ..files import remove_folder
from ..recipe import Recipe
from ..score import Conditions, Goal, Part, Seconds, TaskScore, pooled_tasks
from ..scoring.goals import hashed, load_goals, load_unseen
from ..scoring.mining import mine
from ..scoring.preferences import Preferences, Wanted, require_minable
from ..scoring.scorer import Scorer
from ..scoring.tasks import Loaded
from .order import Ready, WorkerOrder

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


class Worker:
    """A worker in this process. Raises PlanError, RefusedInput or StudyError if it cannot start."""

    ready: Ready

    def __init__(self, order: WorkerOrder) -> None:
        tasks = load_goals(order.goals)
        held_out = load_unseen(order.held_out, tasks)
        require_minable(order.preference)
        load_goals(order.monitor)
        self._engine = open_engine(order.engine, order.parents, order.donor)
        self._template = order.engine.chat_template
        conditions = Conditions(
            order.engine.kind,
            self._engine.device,
            self._engine.threads,
            self._engine.batch_size,
            self._engine.versions,
            order.engine.dtype,
            self._template,
            order.engine.deciding_options,
            gpu_name(self._engine.device),
        )
        self.ready = Ready(conditions, hashed(order.goals, tasks), hashed(order.held_out, held_out))
        self._scorers = {
            False: self._scorer(tasks, self.ready.goals),
            True: self._scorer(held_out, self.ready.held_out),
        }

    def score(
        self, recipe: Recipe, held_out: bool = False, part: Part | None = None
    ) -> tuple[list[TaskScore], Seconds]:
        """Loads a recipe's merge and scores the model on the goals' tasks, or on the held-out ones.

        With ``part``, scores these items only, as ``Scoring.score`` describes.

        Raises TrialFailed with the cause. Any other exception of a library becomes WorkerLost, or
        MachineFault if memory ran out: the state of this process is then unknown. StudyError is passed on,
        because it concerns every candidate.
        """
        begun = time.monotonic()
        with _named_causes():
            lm = self._engine.load(recipe)
            loaded = time.monotonic()
            scores = self._scorers[held_out].score(lm, lambda: self._engine.measure(recipe), part)
        return scores, Seconds(loaded - begun, time.monotonic() - loaded)

    def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Wanted) -> Preferences:
        """Loads a recipe's merge and mines the model for preference pairs (see scoring/preferences.py).

        Raises as ``score``, and PlanError or RefusedInput if the tasks yield too few pairs.
        """
        with _named_causes():
            lm = self._engine.load(recipe)
        with _named_causes(refusals=False):
            return mine(lm, tasks, wanted, self._template)

    def forget(self, digests: Sequence[str]) -> None:
        """Removes the built models of these parents from the cache; a later use builds a model again."""
        from ..merging.materialize import built_folder

        for digest in digests:
            remove_folder(built_folder(digest))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.close()

    def _scorer(self, tasks: Sequence[Loaded], goals: Sequence[Goal]) -> Scorer:
        """A Scorer for tasks, each counted once, with this engine's prompts."""
        unique = list({task.hash: task for task in tasks}.values())
        return Scorer(unique, self._engine.lm, self._template, pooled_tasks(goals))


@contextmanager
def _named_causes(refusals: bool = True) -> Iterator[None]:
    """Turns a library's exceptions into WorkerLost or MachineFault and, with ``refusals``, RefusedInput into
    TrialFailed."""
    try:
        yield
    except (TrialFailed, StudyError):
        raise
    except RefusedInput as refusal:
        if refusals:
            raise TrialFailed(str(refusal)) from refusal
        raise
    except PlanError:
        raise
    except Exception as error:
        raise (MachineFault if is_out_of_memory(error) else WorkerLost)(cause(error)) from error


def cause(error: Exception) -> str:
    """A library's exception in one line."""
    if is_out_of_memory(error):
        return f"out of memory: {_first_line(error)}"
    return (
        str(error)
        if isinstance(error, RecipeSearchError)
        else f"{type(error).__name__}: {_first_line(error)}"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception reports that memory ran out: torch and the system do so only in the message."""
    return isinstance(error, MemoryError) or any(words in _first_line(error).lower() for words in _NO_MEMORY)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]

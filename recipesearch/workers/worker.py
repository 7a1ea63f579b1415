"""Worker: one engine and the tasks' requests, everything that outlives a candidate."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ..check.alignment import live_donor
from ..engines.opening import open_engine
from ..errors import PlanError, RecipeSearchError, RefusedInput, StudyError, TrialFailed, WorkerLost
from ..files import remove_folder
from ..plan import ROOM_OPTIONS, Plan
from ..recipe import Parent, Recipe
from ..score import TaskScore
from ..scoring.goals import load_all_goals, require_mutations
from ..scoring.mining import mine
from ..scoring.preferences import Preferences, Wanted
from ..scoring.scorer import Scorer
from ..scoring.tasks import Loaded
from ..study.ledger import Conditions, Seconds

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


@dataclass(frozen=True)
class Ready:
    """What a worker knows once it stands: its conditions, and the hashes of its tasks in the goals' order."""

    conditions: Conditions
    tasks: Sequence[str]
    held_out: Sequence[str]


class Scoring(Protocol):
    """What a search needs of a worker, in this process or another."""

    ready: Ready

    def score(self, recipe: Recipe, held_out: bool = False) -> tuple[list[TaskScore], Seconds]:
        """Becomes a recipe's model and scores it. Raises TrialFailed with the cause."""

    def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Wanted) -> Preferences:
        """Becomes a recipe's model and mines it for preference pairs."""

    def forget(self, digests: Sequence[str]) -> None:
        """Removes what was built of these parents from the cache."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Worker:
    """A worker in this process. Raises PlanError, RefusedInput or StudyError if it cannot stand."""

    ready: Ready

    def __init__(self, plan: Plan, parents: Mapping[str, Parent]) -> None:
        tasks, held_out = load_all_goals(plan)
        require_mutations(plan)
        self._engine = open_engine(plan.engine, tuple(parents.values()), live_donor(plan, parents))
        self._template = plan.engine.chat_template
        self._scorers = {False: self._scorer(tasks), True: self._scorer(held_out)}
        conditions = Conditions(
            plan.engine.kind,
            self._engine.device,
            self._engine.threads,
            self._engine.batch_size,
            self._engine.versions,
            plan.engine.dtype,
            self._template,
            {name: value for name, value in plan.engine.options.items() if name not in ROOM_OPTIONS},
        )
        self.ready = Ready(conditions, [task.hash for task in tasks], [task.hash for task in held_out])

    def score(self, recipe: Recipe, held_out: bool = False) -> tuple[list[TaskScore], Seconds]:
        """Becomes a recipe's model and scores it on the objectives' tasks, or on the held-out ones.

        Raises TrialFailed with the cause. Whatever else a library raises becomes WorkerLost: the candidate
        failed, and what it left in this process is unknown. StudyError passes: it is about every candidate.
        """
        begun = time.monotonic()
        with _named_causes():
            lm = self._engine.load(recipe)
            loaded = time.monotonic()
            scores = self._scorers[held_out].score(lm, lambda: self._engine.measure(recipe))
        return scores, Seconds(loaded - begun, time.monotonic() - loaded)

    def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Wanted) -> Preferences:
        """Becomes a recipe's model and mines it for preference pairs (see scoring/preferences.py).

        Errors as ``score``, and PlanError or RefusedInput where the tasks give no pairs.
        """
        with _named_causes():
            lm = self._engine.load(recipe)
        with _named_causes(refusals=False):
            return mine(lm, tasks, wanted, self._template)

    def forget(self, digests: Sequence[str]) -> None:
        """Removes what was built of these parents from the cache; whoever needs one builds it again."""
        from ..merging.materialize import built_folder

        for digest in digests:
            remove_folder(built_folder(digest))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.close()

    def _scorer(self, tasks: Sequence[Loaded]) -> Scorer:
        """A Scorer for tasks, each counted once, with this engine's prompts."""
        unique = list({task.hash: task for task in tasks}.values())
        return Scorer(unique, self._engine.lm, self._template)


@contextmanager
def _named_causes(refusals: bool = True) -> Iterator[None]:
    """What a candidate raises as TrialFailed; ``refusals``: those that it is refused for, too."""
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
        raise WorkerLost(cause(error)) from error


def cause(error: Exception) -> str:
    """What a library raised, in one line."""
    line = (str(error).strip() or "no message").splitlines()[0]
    if isinstance(error, MemoryError) or any(words in line.lower() for words in _NO_MEMORY):
        return f"out of memory: {line}"
    return str(error) if isinstance(error, RecipeSearchError) else f"{type(error).__name__}: {line}"

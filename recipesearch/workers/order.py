"""The order for a worker, and the interface of every worker. Light: orders are sent between processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from ..plan import EnginePlan
from ..recipe import Parent, Recipe
from ..score import Conditions, Goal, Part, Seconds, TaskScore

if TYPE_CHECKING:
    from ..scoring.preferences import Preferences, Wanted


@dataclass(frozen=True)
class WorkerOrder:
    """Everything that a worker needs.

    ``donor`` gives the live model its config and tokenizer. ``name`` names the worker's log. ``preference``
    items and ``monitor`` goals are needed later in the study, by mutations; the worker only checks at its
    start that they can be loaded. ``slot`` numbers the workers of a pool, and ``gpus`` are the GPUs of this
    one, as CUDA_VISIBLE_DEVICES names them; "" leaves the choice to the engine.
    """

    name: str
    engine: EnginePlan
    parents: tuple[Parent, ...]
    donor: Parent
    goals: tuple[Goal, ...]
    held_out: tuple[Goal, ...] = ()
    preference: tuple[str, ...] = ()
    monitor: tuple[Goal, ...] = ()
    slot: int | None = None
    gpus: str = ""


@dataclass(frozen=True)
class Ready:
    """What a worker reports once it has started: its conditions and its goals.

    The goals contain their tasks' hashes and numbers of items, and whether scores of parts can be pooled.
    """

    conditions: Conditions
    goals: tuple[Goal, ...]
    held_out: tuple[Goal, ...]

    @property
    def tasks(self) -> list[str]:
        """The task hashes of the goals, in order."""
        return [goal.hash for goal in self.goals]


class Scoring(Protocol):
    """The interface of a worker, in this process or another. ``ready`` is known once ``with`` has begun."""

    ready: Ready

    def score(
        self, recipe: Recipe, held_out: bool = False, part: Part | None = None
    ) -> tuple[list[TaskScore], Seconds]:
        """Loads a recipe's merge and scores the model. Raises TrialFailed with the cause.

        ``part`` is a range [start, stop) of each task's items in the order of ``score.item_order``. Tasks
        with a goal that is not ``pooled`` are scored whole, with the part that starts at 0.
        """

    def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Wanted) -> Preferences:
        """Loads a recipe's merge and mines the model for preference pairs."""

    def forget(self, digests: Sequence[str]) -> None:
        """Removes the built models of these parents from the cache."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


OpenWorker = Callable[[WorkerOrder], Scoring]


@runtime_checkable
class Cluster(Protocol):
    """Starts workers on other machines, as an OpenWorker does, and says how many there are to be."""

    def __call__(self, order: WorkerOrder) -> Scoring:
        """A worker for an order, which ``with`` starts."""

    def slots(self, order: WorkerOrder) -> Sequence[WorkerOrder]:
        """An order for each worker that the cluster has room for now."""

"""Workers on the machines of a Ray cluster: each is an actor around a supervised worker. Light."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import MachineGone, RefusedInput, StudyError
from ..parents.memory import gpus_of_a_worker
from ..plan import EnginePlan
from ..recipe import Recipe
from ..score import Part, Seconds, TaskScore
from .order import Ready, WorkerOrder
from .supervisor import Supervised

if TYPE_CHECKING:
    from ..scoring.preferences import Preferences, Wanted


class RayCluster:
    """The cluster at an address: ``auto`` for one that this machine belongs to, ``local`` for a new one here.

    Raises StudyError if Ray is not installed or the cluster cannot be reached.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise StudyError(
                "--ray needs the package ray: pip install -e '.[run,ray]' in the checkout, on every node"
            ) from error
        try:
            if not ray.is_initialized():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StudyError(
                f"no Ray cluster answers at '{address}': {error}; start one with 'ray start'"
            ) from error

    def __call__(self, order: WorkerOrder) -> RayWorker:
        """A worker, which waits for room in the cluster when it starts."""
        return RayWorker(order)

    def slots(self, order: WorkerOrder) -> Sequence[WorkerOrder]:
        """An order for each of ``engine.workers`` workers; with ``auto`` as many as the nodes have room for.

        A worker without GPUs has ``engine.threads`` threads, by default one, and as many of Ray's CPUs.
        """
        engine, on_gpus = order.engine, _on_gpus(order)
        if not on_gpus:
            engine = engine.model_copy(update={"threads": engine.threads or 1})
        room = [_room(node, engine, on_gpus) for node in _nodes()]
        count = max(1, sum(room)) if engine.workers == "auto" else engine.workers
        return [replace(order, engine=engine, slot=slot) for slot in range(count)]


class RayWorker:
    """A worker in an actor. A crash of the worker process is a MachineFault, as on one machine.

    Raises MachineGone if the actor's machine is lost, and the worker is of no use then.
    """

    ready: Ready

    def __init__(self, order: WorkerOrder) -> None:
        import ray

        gpus = gpus_of_a_worker(order.engine) if _on_gpus(order) else 0
        kind: Any = ray.remote(_Supervising)
        cpus = 1 if gpus else order.engine.threads or 1
        self._actor = kind.options(num_gpus=gpus, num_cpus=cpus).remote(order)

    def score(
        self, recipe: Recipe, held_out: bool = False, part: Part | None = None
    ) -> tuple[list[TaskScore], Seconds]:
        """As Supervised.score."""
        scores, seconds = self._ask("do", "score", recipe, held_out, part)
        return scores, seconds

    def mine(self, recipe: Recipe, tasks: Sequence[str], wanted: Wanted) -> Preferences:
        """As Supervised.mine."""
        return self._ask("do", "mine", recipe, tasks, wanted)  # type: ignore[no-any-return]

    def forget(self, digests: Sequence[str]) -> None:
        """As Supervised.forget, in the cache of the worker's machine."""
        self._ask("do", "forget", digests)

    def __enter__(self) -> Self:
        """Starts the worker, once the cluster has room for the actor."""
        self.ready = self._ask("start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        ray.kill(self._actor)  # the guard of the worker process ends with the actor

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self._actor, method).remote(*arguments))
        except ray.exceptions.RayTaskError as failure:
            raise failure.cause from failure
        except ray.exceptions.RayError as loss:  # the actor, its node or an object is lost
            raise MachineGone(f"a worker's machine is lost: {str(loss).strip().splitlines()[0]}") from loss


class _Supervising:
    """The actor: a supervised worker on its node."""

    def __init__(self, order: WorkerOrder) -> None:
        self._worker, self._order = Supervised(order), order

    def start(self) -> Ready:
        """Starts the worker, and returns what it reports."""
        _require_parents(self._order)
        return self._worker.__enter__().ready

    def do(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the worker."""
        return getattr(self._worker, method)(*arguments)


def _require_parents(order: WorkerOrder) -> None:
    """Raises RefusedInput unless this machine has the parents that the runner has checked, to the bit."""
    from ..parents.identify import identify

    for parent in order.parents:
        if isinstance(parent.source, Recipe):  # built here from its own parents
            continue
        if identify(parent.reference, Path("/")).digest != parent.digest:
            raise RefusedInput(
                f"{parent.reference} on {socket.gethostname()} differs from the parent that the runner has "
                "checked; put the parents on a shared path, or name them by hub id"
            )


def _nodes() -> list[dict[str, Any]]:
    import ray

    nodes: Any = ray.nodes  # untyped
    return [node for node in nodes() if node["Alive"]]


def _room(node: dict[str, Any], engine: EnginePlan, on_gpus: bool) -> int:
    """The number of workers that a node has room for."""
    resources = node["Resources"]
    if on_gpus:
        return int(resources.get("GPU", 0)) // gpus_of_a_worker(engine)
    return int(resources.get("CPU", 0)) // (engine.threads or 1)


def _on_gpus(order: WorkerOrder) -> bool:
    """Whether the workers use GPUs: if the device says so or, with ``auto``, if the cluster has any."""
    if order.engine.device != "auto":
        return order.engine.device == "cuda"
    return any(node["Resources"].get("GPU") for node in _nodes())

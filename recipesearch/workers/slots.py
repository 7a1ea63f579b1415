"""The places of a pool's workers on this machine: GPUs of their own, or a share of the threads. Light."""

from __future__ import annotations

from dataclasses import replace

from ..parents.machine import cores, resolved, visible_gpus
from ..parents.memory import gpus_of_a_worker, workers_here
from .order import WorkerOrder


def slots(order: WorkerOrder) -> list[WorkerOrder]:
    """An order for each of ``engine.workers`` workers. A single worker gets the order as it is.

    Without GPUs each worker gets an equal share of the cores, unless ``engine.threads`` says how many.
    """
    count = workers_here(order.engine)
    if count == 1:
        return [order]
    if resolved(order.engine.device) == "cuda":
        gpus, each = visible_gpus(), gpus_of_a_worker(order.engine)
        places = [",".join(gpus[slot * each : (slot + 1) * each]) for slot in range(count)]
        return [replace(order, slot=slot, gpus=place) for slot, place in enumerate(places)]
    threads = order.engine.threads or max(1, cores() // count)
    engine = order.engine.model_copy(update={"threads": threads})
    return [replace(order, slot=slot, engine=engine) for slot in range(count)]

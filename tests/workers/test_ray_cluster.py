"""Workers as actors of a real Ray cluster: several raylets on this machine, which join and are killed."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import worker_order
from recipesearch.errors import MachineGone, RefusedInput, StudyError
from recipesearch.plan import Plan
from recipesearch.recipe import Parent
from recipesearch.search.run import Progress, run
from recipesearch.workers.order import WorkerOrder
from recipesearch.workers.ray_cluster import RayCluster, _require_parents

pytestmark = pytest.mark.long
ENGINE = {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64, "workers": "auto"}


@pytest.fixture
def machines() -> Iterator[Any]:
    """A cluster with a head that scores nothing, and one node of one CPU."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.first = cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def order(make_plan: Callable[..., Plan]) -> WorkerOrder:
    return worker_order(preflight(make_plan(engine=ENGINE)))


def test_a_node_joins_and_a_node_is_killed_during_a_study(
    make_plan: Callable[..., Plan], machines: Any
) -> None:
    """Real engines. The recipe of the lost node goes to the other one: no trial fails, none is missing."""
    plan = make_plan(engine=ENGINE, search={"sampler": "random", "trials": 400, "seed": 1})
    workers: list[int] = []

    def observe(progress: Progress) -> None:
        workers.append(progress.workers)
        if progress.scored == 2:
            machines.add_node(num_cpus=1)
        if workers.count(2) == 40:
            machines.remove_node(machines.first, allow_graceful=False)

    results = run(plan, observe, RayCluster(machines.address))
    assert workers[1] == 1
    assert max(workers) == 2
    assert workers[-1] == 1
    assert Counter(row.state for row in results.rows) == {"complete": len(results.rows)}
    assert len(results.scored) == 400


def test_room_is_counted_by_node(order: WorkerOrder, machines: Any) -> None:
    """A worker does not span nodes."""
    cluster = RayCluster(machines.address)
    machines.add_node(num_cpus=3)
    two = replace(order, engine=order.engine.model_copy(update={"threads": 2}))
    assert [len(cluster.slots(one)) for one in (order, two)] == [4, 1]
    more = replace(order, engine=order.engine.model_copy(update={"workers": 6}))
    assert [one.slot for one in cluster.slots(more)] == list(range(6)), "an autoscaler may make room"


def test_nodes_without_gpus_have_no_room_for_workers_on_gpus(
    order: WorkerOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"Resources": {"CPU": 32.0}}, {"Resources": {"CPU": 64.0, "GPU": 4.0}}]
    monkeypatch.setattr("recipesearch.workers.ray_cluster._nodes", lambda: nodes)
    cluster = object.__new__(RayCluster)
    on_gpus = replace(order, engine=order.engine.model_copy(update={"device": "auto", "threads": None}))
    assert [(one.slot, one.engine.threads) for one in cluster.slots(on_gpus)] == [(n, None) for n in range(4)]
    on_cpus = replace(order, engine=order.engine.model_copy(update={"threads": None}))
    assert [one.engine.threads for one in cluster.slots(on_cpus)] == [1] * 96


def test_a_worker_that_waits_for_room_can_be_closed(order: WorkerOrder, machines: Any) -> None:
    """Ctrl-C while an autoscaler starts nodes."""
    too_wide = replace(order, engine=order.engine.model_copy(update={"threads": 64}))
    worker = RayCluster(machines.address)(too_wide)
    threading.Timer(2.0, worker.__exit__, (None, None, None)).start()
    with pytest.raises(MachineGone):
        worker.__enter__()


def test_parents_of_other_content_on_a_node_are_refused(order: WorkerOrder) -> None:
    _require_parents(order)
    other = Parent("0" * 64, order.parents[0].source)
    with pytest.raises(RefusedInput, match=r"differs from the parent.*shared path"):
        _require_parents(replace(order, parents=(other,)))


def test_a_worker_that_does_not_start_says_why(order: WorkerOrder, machines: Any) -> None:
    other = Parent("0" * 64, order.parents[0].source)
    worker = RayCluster(machines.address)(replace(order, parents=(other, order.parents[1])))
    with pytest.raises(RefusedInput, match="differs from the parent"), worker:
        pass


def test_no_cluster_is_named() -> None:
    with pytest.raises(StudyError, match="no Ray cluster answers at 'auto'"):
        RayCluster("auto")

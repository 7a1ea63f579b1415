"""Workers as actors of a real Ray cluster: several raylets on this machine, which join and are killed."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from recipesearch.checking.preflight import preflight
from recipesearch.checking.worker_order import worker_order
from recipesearch.errors import RefusedInput, StudyError
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
    few = replace(order, engine=order.engine.model_copy(update={"workers": 3}))
    assert [one.slot for one in cluster.slots(few)] == [0, 1, 2]


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

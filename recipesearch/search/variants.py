"""A first population of variants, fine-tuned with other data or settings, as in EvoMerge (2402.00070)."""

from __future__ import annotations

from ..checking.preflight import preflight
from ..checking.worker_order import worker_order
from ..mutation.bred import keep
from ..mutation.breeder import Breeder, Elite, Means, Mutation, recipes_of
from ..parents.identify import identify
from ..plan import Plan
from ..recipe import Parent, Recipe


def with_variants(plan: Plan, means: Means) -> Plan:
    """The plan with its variants among the parents; trains the missing variants.

    There is no gate, because the first population should be diverse. Raises as mining and training do.
    """
    assert plan.mutation is not None
    made: dict[str, str] = {}
    waiting: list[tuple[str, Breeder, Mutation]] = []
    for name, variant in plan.mutation.variants.items():
        own = plan.model_copy(update={"preference": variant.preference or plan.preference})
        breeder = Breeder(own, means)
        parent = identify(plan.parents[variant.of], plan.folder)
        # Mutate the recipe that is the parent alone if the parent has an adapter, since a model takes only
        # one, or is a recipe, since the worker has this recipe's model but not the models it was merged from.
        if parent.adapter or isinstance(parent.source, Recipe):
            alone = recipes_of(parent, plan.engine.dtype)[-1]
            parent = Parent(alone.digest, alone)
        elite = Elite(parent, None, f"variant {name}")
        waiting.append((name, breeder, breeder.mutation(elite, plan.mutation.of_variant(name))))
    unmade = [one for one in waiting if not one[1].is_trained(one[2])]
    mined = {}
    if unmade:
        with means.open_worker(worker_order(preflight(plan))) as worker:
            mined = {name: breeder.mine(mutation, worker) for name, breeder, mutation in unmade}
    for name, breeder, mutation in waiting:
        parent = breeder.trained(mutation, mined.get(name))
        made[name] = keep(plan, parent, {"study": plan.name, "variant": name})
    return plan.model_copy(update={"parents": {**plan.parents, **made}})

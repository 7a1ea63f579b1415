"""A sweep: two parents merged at ratios from one to the other, scored like any recipe of a study.

EvoMerge's first experiment (2402.00070): is a merge at any ratio better than both parents?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..checking.preflight import Preflight, preflight
from ..checking.worker_order import worker_order
from ..errors import PlanError, TrialFailed, nearest
from ..plan import Plan, WeightsPlan
from ..recipe import Recipe
from ..recipe.mergekit_yaml import to_yaml
from ..recipe.methods import METHODS
from ..score import Measurement
from ..space.weights import WeightSpace
from ..study.ledger import Ledger
from ..study.storage import Database
from ..workers.order import OpenWorker, Scoring
from ..workers.supervisor import Supervised

# Methods with an interpolation ratio, or with one weight for each parent.
SWEPT = tuple(
    name
    for name, row in METHODS.items()
    if any(p.gene == ("t" if row.most == 2 else "weight") for p in row.parameters)
)


@dataclass(frozen=True)
class Point:
    """One merge of a sweep: the second parent's share, and the values by objective or the failure's cause."""

    ratio: float
    values: Mapping[str, Measurement]
    cause: str | None = None


def sweep(
    plan: Plan,
    pair: tuple[str, str],
    ratios: Sequence[float],
    method: str = "linear",
    open_worker: OpenWorker | None = None,
) -> Iterator[Point]:
    """Scores the merges of two of the plan's parents on its objectives, from the first to the second.

    ``ratios`` are the second parent's weight (or ``t``), the first has the rest; a base apart is the plan's.
    Scores are committed to the plan's ledger, which answers those that it has. Raises PlanError for parents
    or a method that cannot be swept.
    """
    checked = preflight(plan)
    recipes = [_recipe(checked, pair, ratio, method) for ratio in ratios]
    with (open_worker or Supervised)(worker_order(checked)) as worker:
        ledger = Ledger(Database(plan.storage_url), worker.ready.conditions)
        for ratio, recipe in zip(ratios, recipes, strict=True):
            yield _point(worker, ledger, recipe, ratio)


def _recipe(checked: Preflight, pair: tuple[str, str], ratio: float, method: str) -> Recipe:
    """The pair's merge at a ratio, expressed by a space with this one method over the pair (and its base)."""
    pool = checked.pool
    for name in pair:
        if name not in pool.parents:
            raise PlanError(f"no parent '{name}': {nearest(name, pool.parents)}")
    if method not in SWEPT:
        raise PlanError(f"method '{method}' has no ratio to sweep: {nearest(method, SWEPT)}")
    base = pool.base if METHODS[method].base == "required" else None
    if METHODS[method].base == "required" and (base is None or base in pair):
        raise PlanError(f"method '{method}' needs a base other than '{pair[0]}' and '{pair[1]}'; set 'base:'")
    names = [*pair, *([base] if base else [])]
    if len(set(names)) < len(names):
        raise PlanError(f"a sweep needs two parents, not '{pair[0]}' twice; name another one")
    if pool.tokenizer and (set(names) != set(pool.parents) or (base or pair[0]) != pool.donor):
        raise PlanError(
            "with a 'tokenizer' section every recipe has all parents, the donor first; sweep a study of two "
            f"parents, starting with '{pool.donor}'"
        )
    narrow = replace(pool, parents={name: pool.parents[name] for name in names}, base=base or pair[0])
    space = WeightSpace(WeightsPlan(methods=(method,)), narrow)
    shares = {pair[0]: round(1 - ratio, 4), pair[1]: ratio}
    genome = space.defaults(method) | {f"weight.{name}.g0": share for name, share in shares.items()}
    return space.express(genome | {"t.g0": ratio, "pair": "+".join(pair)})


def _point(worker: Scoring, ledger: Ledger, recipe: Recipe, ratio: float) -> Point:
    if not ledger.covers(recipe.digest, worker.ready.goals):
        try:
            scores, seconds = worker.score(recipe)
        except TrialFailed as failure:
            return Point(ratio, {}, str(failure))
        ledger.commit(recipe.digest, to_yaml(recipe, lambda p: p.reference, {}), scores, seconds)
    known = ledger.metrics(recipe.digest, worker.ready.tasks)
    return Point(ratio, {goal.name: goal.of(known) for goal in worker.ready.goals})

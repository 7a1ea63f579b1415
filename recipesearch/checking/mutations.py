"""Checks of a study's mutations before anything is run."""

from __future__ import annotations

from ..errors import PlanError, nearest
from ..plan import Plan


def require_mutable(plan: Plan) -> None:
    """Raises PlanError if the winners of a study cannot be mutated."""
    if plan.tokenizer is not None:
        raise PlanError("mutation does not support a 'tokenizer' section yet; align the parents first")
    if any(sign in str(plan.bred) for sign in "@+"):
        raise PlanError(f"{plan.bred}: mergekit reads '@' and '+' as revision and adapter; rename it")
    if not plan.preference:
        raise PlanError("a mutation needs its own training items: name its items under 'preference'")


def require_variants(plan: Plan) -> None:
    """Raises PlanError unless each variant names a parent of the study file and has a unique, valid name."""
    for name, variant in plan.mutation.variants.items() if plan.mutation else ():
        where = f"mutation.variants.{name}"
        if variant.of not in plan.parents:
            raise PlanError(f"{where}.of: no parent '{variant.of}': {nearest(variant.of, plan.parents)}")
        if name in plan.parents:
            raise PlanError(f"{where}: a parent has this name already; rename the variant")
        if not name.replace("-", "").replace("_", "").isalnum():
            raise PlanError(f"{where}: use letters, digits, '-' and '_'")

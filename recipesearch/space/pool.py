"""Pool: the parents of a study, and the check that the plan's methods can merge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import PlanError
from ..plan import WeightsPlan, donor_of
from ..recipe import Parent, Tokenizer
from ..recipe.methods import METHODS
from .places import Parts


@dataclass(frozen=True)
class Pool:
    """The parents of a study by name, in order, and the settings that all its recipes share.

    - ``depths``: the parents' numbers of layers, which must be equal in a weight space.
    - ``parts`` identifies embeddings, head and norms by tensor name.
    - ``tokenizer`` aligns the parents' vocabularies. The result depends on the parents and the base of a
      recipe, so every recipe then has all parents, even at weight zero, and the same base.
    - ``alike``: all parents have the same config and tokenizer. Otherwise one parent has to be the base of
      every recipe, because a recipe takes config and tokenizer from its base.
    - ``architecture``: the transformers class of all parents.
    """

    parents: Mapping[str, Parent]
    base: str | None
    depths: Mapping[str, int]
    parts: Parts
    dtype: str
    seed: int
    tokenizer: Tokenizer | None = None
    alike: bool = True
    architecture: str = ""

    @property
    def layers(self) -> int:
        """The donor's number of layers."""
        return self.depths[self.donor]

    @property
    def donor(self) -> str:
        """The parent that gives config and tokenizer if all recipes have the same base."""
        return donor_of(self.base, self.parents)


def require_enough(plan: WeightsPlan, pool: Pool) -> None:
    """Raises PlanError if a method needs more parents than the pool has."""
    for name in plan.methods:
        method = METHODS[name]
        apart = method.base == "required"
        if len(pool.parents) < method.fewest + apart:
            beside = " besides the base" if apart else ""
            raise PlanError(
                f"method '{name}' needs {method.fewest} parents{beside}: add parents, or remove the method"
            )


def require_one_donor(plan: WeightsPlan, pool: Pool) -> None:
    """Raises PlanError if a recipe could take config and tokenizer from a parent other than the donor."""
    if plan.base == "any" and any(METHODS[m].base in ("required", "optional") for m in plan.methods):
        raise PlanError(
            "the parents differ in config or tokenizer, which a recipe takes from its base: set "
            "space.weights.base to fixed, or give the parents the same files"
        )
    for name in plan.methods:
        method = METHODS[name]
        if method.base == "optional" and (pool.base is None or len(pool.parents) <= method.fewest):
            raise PlanError(
                f"the parents differ in config or tokenizer, and a {name} merge without a separate base "
                "takes them from any: add a base, remove the method, or give the parents the same files"
            )


def require_all_parents(plan: WeightsPlan, pool: Pool) -> None:
    """Raises PlanError unless all recipes have all parents and one base, which decide the vocabulary."""
    for key, wanted in (("parents", "all"), ("base", "fixed")):
        if getattr(plan, key) != wanted:
            raise PlanError(
                f"with a 'tokenizer' section every recipe must have all parents and one base: set "
                f"space.weights.{key} to {wanted}"
            )
    for name in plan.methods:
        method = METHODS[name]
        apart = method.base == "optional" and pool.base is not None
        if method.most is not None and method.most + apart < len(pool.parents):
            raise PlanError(
                f"with a 'tokenizer' section every recipe must have all parents, but {name} takes "
                f"{method.most} of {len(pool.parents)}: remove the method"
            )
        if method.base == "optional" and (pool.base is None or len(pool.parents) <= method.fewest):
            raise PlanError(
                f"with a 'tokenizer' section every recipe must have a base, but {name} would have none here: "
                "add a separate base, or remove the method"
            )

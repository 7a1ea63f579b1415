"""Pool: what a study merges, and whether its methods can merge all that."""

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
    """What a study merges: its parents by name, in order, and what all their recipes share.

    ``depths`` are their numbers of layers, which weights need to be one; ``parts`` tells embeddings, head and
    norms by the names of their tensors. ``tokenizer`` aligns their vocabularies. Those follow from the
    parents and the base of a recipe, so then every recipe has all parents, weight zero or not, and one base.
    ``alike``: all have the same config and tokenizer; else one parent has to be the base of every recipe,
    which has them from its base. ``architecture`` is the transformers class of all.
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
        """The parent that gives config and tokenizer where recipes have one base."""
        return donor_of(self.base, self.parents)


def require_enough(plan: WeightsPlan, pool: Pool) -> None:
    """Raises PlanError if a method needs more parents than there are."""
    for name in plan.methods:
        method = METHODS[name]
        apart = method.base == "required"
        if len(pool.parents) < method.fewest + apart:
            beside = " beside the base" if apart else ""
            raise PlanError(
                f"method '{name}' needs {method.fewest} parents{beside}: name more, or drop the method"
            )


def require_one_donor(plan: WeightsPlan, pool: Pool) -> None:
    """Raises PlanError if recipes could have the config and tokenizer of a parent other than the donor's."""
    if plan.base == "any" and any(METHODS[m].base in ("required", "optional") for m in plan.methods):
        raise PlanError(
            "the parents differ in config or tokenizer, which a recipe has from its base: set "
            "space.weights.base to fixed, or give the parents the same files"
        )
    for name in plan.methods:
        method = METHODS[name]
        if method.base == "optional" and (pool.base is None or len(pool.parents) <= method.fewest):
            raise PlanError(
                f"the parents differ in config or tokenizer, and a {name} merge without a base apart has "
                "those of any: add a base, drop the method, or give the parents the same files"
            )


def require_all_parents(plan: WeightsPlan, pool: Pool) -> None:
    """Raises PlanError unless all recipes have all parents and one base: the vocabulary follows from them."""
    for key, wanted in (("parents", "all"), ("base", "fixed")):
        if getattr(plan, key) != wanted:
            raise PlanError(
                f"with a 'tokenizer' section every recipe has all parents and one base: set "
                f"space.weights.{key} to {wanted}"
            )
    for name in plan.methods:
        method = METHODS[name]
        apart = method.base == "optional" and pool.base is not None
        if method.most is not None and method.most + apart < len(pool.parents):
            raise PlanError(
                f"with a 'tokenizer' section every recipe has all parents, and {name} takes {method.most} of "
                f"{len(pool.parents)}: drop the method"
            )
        if method.base == "optional" and (pool.base is None or len(pool.parents) <= method.fewest):
            raise PlanError(
                f"with a 'tokenizer' section every recipe has a base, and {name} would have none here: add a "
                "base apart, or drop the method"
            )

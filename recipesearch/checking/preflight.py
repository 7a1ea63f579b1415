"""From a plan to the parents, space and sampler of its search, before any heavy work. Light."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import PlanError, RefusedInput
from ..parents.compatibility import require_compatible, require_stackable, warn_unless_alike
from ..parents.headers import Checkpoint
from ..plan import Plan
from ..recipe import Recipe, Tokenizer
from ..recipe.hosting import require_hostable
from ..samplers.fit import Choice, choose
from ..space.kinds import Space, open_space
from ..space.places import Parts
from ..space.pool import Pool
from ..space.seeds import require_parent_alone
from ..space.weights import WeightSpace
from .parents import Member, Parents, examine, require_distinct

# GPT-NeoX calls its head embed_out.
_EMBEDDING = re.compile(r"embed(?!_out)|wte|wpe")
_NORM = re.compile(r"norm|ln_")
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Preflight:
    """A checked plan: its parents, the space over them and the sampler for it."""

    plan: Plan
    parents: Parents
    pool: Pool
    space: Space
    choice: Choice

    def recipe_of(self, trial: int, genome: Mapping[str, Any], digest: str | None) -> Recipe:
        """A trial's recipe, expressed from its genome; ``digest`` is the digest of the scored recipe.

        Raises RefusedInput if the digests differ, because a parent has changed since.
        """
        recipe = self.space.express(genome)
        if recipe.digest != digest:
            raise RefusedInput(
                f"trial {trial} of {self.plan.name} was scored with other parents: a parent has changed "
                "since; restore it, or search again under a new name"
            )
        return recipe


def preflight(plan: Plan, front: Mapping[str, Member] | None = None, *, to_run: bool = True) -> Preflight:
    """Examines the parents and builds the space over them.

    ``front`` are the parents that the plan takes from the previous era's front (see members.py). Raises
    RefusedInput for parents that are missing, unsafe, damaged or incompatible and, with ``to_run``, for
    parents that do not fit into memory. Raises PlanError for a space or a sampler that does not fit the plan.
    """
    parents = examine(plan, front or {}, to_run=to_run)
    return fit(plan, parents, parents.vocabulary.tokenizer if parents.vocabulary else None)


def fit(plan: Plan, parents: Parents, tokenizer: Tokenizer | None) -> Preflight:
    """The plan's space over its parents, and the sampler for it. Raises as ``preflight`` does."""
    require_distinct(parents.by_name)
    checkpoints = parents.checkpoints
    _require_mergeable(plan, checkpoints)
    first = next(iter(checkpoints.values()))
    pool = Pool(
        parents.models,
        plan.base,
        {name: checkpoint.layers for name, checkpoint in checkpoints.items()},
        _parts(first),
        plan.engine.dtype,
        plan.search.seed,
        tokenizer,
        tokenizer is not None or warn_unless_alike(checkpoints),
        first.architecture,
    )
    space = open_space(plan.space, pool)
    bounded = any(o.bound is not None or o.within is not None for o in plan.objectives)
    if plan.evolves and plan.search.items is not None:
        raise PlanError("search.items: a loop over eras compares recipes item by item; remove search.items")
    weights = isinstance(space, WeightSpace)
    choice = choose(plan.search, space.genes, len(plan.objectives), bounded, weights)
    if relative := [place for place, one in enumerate(plan.objectives) if one.within is not None]:
        require_parent_alone(space, f"objectives.{relative[0]}.within")
    return Preflight(plan, parents, pool, space, choice)


def _require_mergeable(plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> None:
    """Raises RefusedInput or PlanError unless the plan's space can merge the parents."""
    if plan.space.layers:
        _require_layers(plan, checkpoints)
        return
    require_compatible(checkpoints)
    first = next(iter(checkpoints.values()))
    for name in plan.space.weights.filters if plan.space.weights else ():
        if not any(name in tensor for tensor in first.tensors):
            raise PlanError(f"space.weights.filters: '{name}' matches no tensor name; correct or remove it")


def _require_layers(plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> None:
    require_stackable(checkpoints)
    if hosts := plan.engine.traits.fixed_depth:
        require_hostable(next(iter(checkpoints.values())).architecture)
    from ..merging.layered import require_movable  # needs transformers for the defaults of configs

    require_movable({name: checkpoint.config for name, checkpoint in checkpoints.items()}, in_place=hosts)


def _parts(checkpoint: Checkpoint) -> Parts:
    """The tensor names of embeddings, head and final norm, and the patterns in the names of all norms."""
    outside = sorted(name for name in checkpoint.tensors if not _LAYER.search(name))
    embed = tuple(name for name in outside if _EMBEDDING.search(name))
    norms = {found[0] for name in checkpoint.tensors if (found := _NORM.search(name))}
    inner = {_LAYER.sub(".{}.", name, count=1) for name in checkpoint.tensors if _LAYER.search(name)}
    head = tuple(name for name in outside if name not in embed)
    return Parts(embed, head, tuple(sorted(norms)), tuple(sorted(inner)))

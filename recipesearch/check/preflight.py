"""From a plan to what a search needs, checked before any heavy work: parents, space, sampler. Light."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import PlanError, RefusedInput
from ..parents.compatibility import require_compatible, require_stackable, warn_unless_alike
from ..parents.headers import Checkpoint, read_checkpoint
from ..parents.identify import identify, locate
from ..parents.memory import require_memory
from ..parents.tokenizer_files import Settled
from ..plan import FRONT, EnginePlan, Plan
from ..recipe import Parent, Recipe, Tokenizer
from ..recipe.hosting import require_hostable
from ..samplers.fit import Choice, choose
from ..space.kinds import Space, open_space
from ..space.places import Parts
from ..space.pool import Pool
from ..space.seeds import parent_label, seeds
from .alignment import donor_first, settle_vocabulary, warn_of_other_tokens
from .shapes import shapes

# GPT-NeoX calls its head embed_out.
_EMBEDDING = re.compile(r"embed(?!_out)|wte|wpe")
_NORM = re.compile(r"norm|ln_")
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Member:
    """A parent that is a member of an earlier era's front, and the study and trial that it comes from.

    ``shapes`` stand for those of a member that is not found yet. ``references`` are how that study's file,
    and those before it, name its parents.
    """

    parent: Parent
    study: str
    trial: int | None
    shapes: Checkpoint | None = None
    references: Mapping[Parent, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preflight:
    """A checked plan: its pool of parents, their headers, the space over them and the sampler for it.

    The headers are as merges see them: aligned to the ``vocabulary``, if the study has one of its own.
    ``front`` are the parents that come from an earlier era, by the plan's reference to them.
    """

    plan: Plan
    pool: Pool
    checkpoints: Mapping[str, Checkpoint]
    space: Space
    choice: Choice
    vocabulary: Settled | None = None
    front: Mapping[str, Member] = field(default_factory=dict)

    def references(self) -> dict[Parent, str]:
        """How the study file names each parent, and how those of earlier eras name theirs."""
        earlier = {p: ref for member in self.front.values() for p, ref in member.references.items()}
        named = zip(self.pool.parents.values(), self.plan.parents.values(), strict=True)
        return earlier | {parent: reference for parent, reference in named if reference not in self.front}

    def recipe_of(self, trial: int, genome: Mapping[str, Any], digest: str | None) -> Recipe:
        """A trial's recipe, found anew from its genome; ``digest`` is that which it was scored under.

        Raises RefusedInput if that is another one: a parent has changed since.
        """
        recipe = self.space.express(genome)
        if recipe.digest != digest:
            raise RefusedInput(
                f"trial {trial} of {self.plan.name} was scored with other parents: one has changed since; "
                "restore it, or search again under a new name"
            )
        return recipe


def preflight(plan: Plan, front: Mapping[str, Member] | None = None, *, to_run: bool = True) -> Preflight:
    """Identifies the parents, reads their headers and builds the space.

    ``front`` are the parents that the plan takes from the front of the era before (see eras.py). Raises
    RefusedInput for parents that are missing, unsafe, damaged or incompatible and, if the plan is ``to_run``,
    for more of them than fit into memory; PlanError for a space or a sampler that does not fit.
    """
    taken = front or {}
    located = _read_located(plan)
    if to_run:  # first: identifying reads every byte of every parent
        require_memory(*in_memory(plan, located))
    parents = {
        name: taken[reference].parent if reference in taken else identify(reference, plan.folder)
        for name, reference in plan.parents.items()
    }
    known = {name: taken[ref].shapes for name, ref in plan.parents.items() if ref in taken}
    checkpoints = {
        name: located.get(name) or known.get(name) or shapes(parent) for name, parent in parents.items()
    }
    settled = settle_vocabulary(plan, parents)
    if settled:
        checkpoints = {name: found.with_vocabulary(settled.size) for name, found in checkpoints.items()}
    if not settled:
        warn_of_other_tokens(checkpoints)
    if to_run and (settled or located.keys() < checkpoints.keys()):
        require_memory(*in_memory(plan, checkpoints))
    checked = fit(plan, parents, checkpoints, settled.tokenizer if settled else None)
    return replace(checked, vocabulary=settled, front=taken)


def fit(
    plan: Plan,
    parents: Mapping[str, Parent],
    checkpoints: Mapping[str, Checkpoint],
    tokenizer: Tokenizer | None,
) -> Preflight:
    """The plan's space over its parents, and the sampler for it. Raises as ``preflight`` does."""
    _require_distinct(plan, parents)
    _require_mergeable(plan, checkpoints)
    first = next(iter(checkpoints.values()))
    pool = Pool(
        parents,
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
    choice = choose(plan.search, space.genes, len(plan.objectives), bounded)
    _require_parents_values(plan, space)
    return Preflight(plan, pool, checkpoints, space, choice)


def _require_mergeable(plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> None:
    """Raises RefusedInput or PlanError unless the parents can be merged as the plan's space does."""
    if plan.space.layers:
        _require_layers(plan, checkpoints)
        return
    require_compatible(checkpoints)
    first = next(iter(checkpoints.values()))
    for name in plan.space.weights.filters if plan.space.weights else ():
        if not any(name in tensor for tensor in first.tensors):
            raise PlanError(f"space.weights.filters: '{name}' is part of no tensor's name")


def _require_layers(plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> None:
    require_stackable(checkpoints)
    if hosts := plan.engine.kind == "vllm":
        require_hostable(next(iter(checkpoints.values())).architecture)
    from ..merging.layered import require_movable  # transformers fills in what configs leave out

    require_movable({name: checkpoint.config for name, checkpoint in checkpoints.items()}, in_place=hosts)


def in_memory(
    plan: Plan, checkpoints: Mapping[str, Checkpoint]
) -> tuple[list[Checkpoint], EnginePlan, Checkpoint | None, int]:
    """What ``memory.need`` takes: the parents, the engine, the largest live model if it is none of them, and
    the places for parents that are not bred yet.

    The parent that gives the live model its config comes first.
    """
    parents = [checkpoints[name] for name in donor_first(plan) if name in checkpoints]
    deepest = plan.space.layers.depth[1] if plan.space.layers else 0
    live = parents[0].with_depth(deepest) if parents and deepest else None
    return parents, plan.engine, live, plan.most_parents if plan.evolves else 0


def _read_located(plan: Plan) -> dict[str, Checkpoint]:
    """The headers of those parents that are a model's folder as they stand: no recipes, no adapters."""
    named = {name: ref for name, ref in plan.parents.items() if not ref.startswith(FRONT)}
    folders = {name: locate(reference, plan.folder) for name, reference in named.items()}
    return {name: read_checkpoint(folder) for name, folder in folders.items() if folder}


def _require_parents_values(plan: Plan, space: Space) -> None:
    """A bound relative to the parents needs one that is scored by itself."""
    labels = {label for label, _ in seeds(space)}
    alone = any(parent_label(name) in labels for name in space.pool.parents)
    for place, objective in enumerate(plan.objectives):
        if objective.within is not None and not alone:
            raise PlanError(
                f"objectives.{place}.within: no parent alone is a recipe of these methods and ranges, so "
                "none is scored; give a 'bound'"
            )


def _require_distinct(plan: Plan, parents: Mapping[str, Parent]) -> None:
    names: dict[str, str] = {}
    for name, parent in parents.items():
        first = names.setdefault(parent.digest, name)
        if first != name:
            named = " and ".join(dict.fromkeys((plan.parents[first], plan.parents[name])))
            raise RefusedInput(f"parents '{first}' and '{name}' are the same model ({named}); drop one")


def _parts(checkpoint: Checkpoint) -> Parts:
    """Embeddings, head and final norm by the names of their tensors, all norms by what their names share."""
    outside = sorted(name for name in checkpoint.tensors if not _LAYER.search(name))
    embed = tuple(name for name in outside if _EMBEDDING.search(name))
    norms = {found[0] for name in checkpoint.tensors if (found := _NORM.search(name))}
    return Parts(embed, tuple(name for name in outside if name not in embed), tuple(sorted(norms)))

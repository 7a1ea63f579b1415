"""From a plan to what a search needs, checked before any heavy work: parents, space, sampler. Light."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import PlanError, RefusedInput
from .memory import need, require_memory
from .merging.compatibility import require_compatible, require_same_donor
from .merging.headers import Checkpoint, read_checkpoint
from .merging.parents import identify, locate, model_directory
from .plan import Plan
from .recipe import Parent, Recipe
from .samplers import require_fit
from .space.places import Parts
from .space.weights import Pool, WeightSpace

# GPT-NeoX calls its head embed_out.
_EMBEDDING = re.compile(r"embed(?!_out)|wte|wpe")
_NORM = re.compile(r"norm|ln_")
_LAYER = re.compile(r"\.(\d+)\.")
# Measured on the demo's database: rows and their indexes.
_TRIAL_BYTES, _ITEM_BYTES = 8_000, 110


@dataclass(frozen=True)
class Preflight:
    """A checked plan: its pool of parents, their headers, and the space over them."""

    plan: Plan
    pool: Pool
    checkpoints: Mapping[str, Checkpoint]
    space: WeightSpace


def preflight(plan: Plan, *, to_run: bool = True) -> Preflight:
    """Identifies the parents, reads their headers and builds the space.

    Raises RefusedInput for parents that are missing, unsafe, damaged or incompatible and, if the plan is
    ``to_run``, for more of them than fit into memory; PlanError for a space or a sampler that does not fit.
    """
    located = _read_located(plan)
    if to_run:  # first: identifying reads every byte of every parent
        require_memory(_donor_first(plan, located), plan.engine)
    parents = {name: identify(reference, plan.folder) for name, reference in plan.parents.items()}
    _require_distinct(parents)
    checkpoints = {
        name: located.get(name) or read_checkpoint(_headers_of(parent)) for name, parent in parents.items()
    }
    require_compatible(checkpoints)
    if to_run and located.keys() < checkpoints.keys():
        require_memory(_donor_first(plan, checkpoints), plan.engine)
    first = next(iter(checkpoints.values()))
    for name in plan.space.weights.filters:
        if not any(name in tensor for tensor in first.tensors):
            raise PlanError(f"space.weights.filters: '{name}' is part of no tensor's name")
    pool = Pool(parents, plan.base, first.layers, _parts(first), plan.engine.dtype, plan.search.seed)
    space = WeightSpace(plan.space.weights, pool)
    for method in space.baseless:
        require_same_donor(checkpoints, method)
    require_fit(plan.search, space.genes, len(plan.objectives))
    return Preflight(plan, pool, checkpoints, space)


def _read_located(plan: Plan) -> dict[str, Checkpoint]:
    """The headers of those parents that are a model's folder as they stand: no recipes, no adapters."""
    folders = {name: locate(reference, plan.folder) for name, reference in plan.parents.items()}
    return {name: read_checkpoint(folder) for name, folder in folders.items() if folder}


def _donor_first(plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> list[Checkpoint]:
    """The parent that gives the live model its config comes first."""
    donor = plan.base or next(iter(plan.parents))
    return [checkpoints[name] for name in sorted(checkpoints, key=lambda name: name != donor)]


def _require_distinct(parents: Mapping[str, Parent]) -> None:
    names: dict[str, str] = {}
    for name, parent in parents.items():
        if parent.digest in names:
            raise RefusedInput(f"parents '{names[parent.digest]}' and '{name}' are the same model; drop one")
        names[parent.digest] = name


def _headers_of(parent: Parent) -> Path:
    """A folder with the parent's shapes: a recipe has those of its base, else of its first parent."""
    while isinstance(parent.source, Recipe):
        parent = parent.source.base or parent.source.parents()[0]
    return model_directory(parent)


def _parts(checkpoint: Checkpoint) -> Parts:
    """Embeddings, head and final norm by the names of their tensors, all norms by what their names share."""
    outside = sorted(name for name in checkpoint.tensors if not _LAYER.search(name))
    embed = tuple(name for name in outside if _EMBEDDING.search(name))
    norms = {found[0] for name in checkpoint.tensors if (found := _NORM.search(name))}
    return Parts(embed, tuple(name for name in outside if name not in embed), tuple(sorted(norms)))


def estimate(checked: Preflight, items: int) -> dict[str, Any]:
    """What a study of ``items`` scored items per recipe needs: sizes in bytes, counts.

    Memory is that of the resident parents, the live model and vLLM's KV cache (see ``memory.Need``); scoring
    comes on top. Time is not estimated: it depends on the machine, and a run's progress line tells it after
    a few recipes.
    """
    plan = checked.plan
    needed = need(_donor_first(plan, checked.checkpoints), plan.engine)
    return {
        "architecture": next(iter(checked.checkpoints.values())).architecture,
        "layers": checked.pool.layers,
        "parents": len(checked.checkpoints),
        "genes": len(checked.space.genes),
        "sampler": plan.search.sampler,
        "recipes": plan.search.trials,
        "items_per_recipe": items,
        "memory_bytes": needed.total,
        "parents_bytes": needed.parents,
        "model_bytes": needed.model,
        "cache_bytes": needed.cache,
        "database_bytes": plan.search.trials * (_TRIAL_BYTES + items * _ITEM_BYTES),
        "merged_model_bytes": needed.model,
    }

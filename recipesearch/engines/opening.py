"""From a study file's engine section to an engine. Light until an engine is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from ..errors import RefusedInput
from ..plan import EnginePlan
from ..recipe import Parent, Recipe

if TYPE_CHECKING:
    from lm_eval.api.model import LM


class Engine(Protocol):
    """A live model. The attributes are what can move a score, beside recipe and task."""

    device: str
    threads: int
    batch_size: int
    versions: str

    @property
    def lm(self) -> LM:
        """The live model behind lm-eval's interface; the same object for every recipe."""

    def load(self, recipe: Recipe) -> LM:
        """Becomes the recipe's model and returns it. Raises TrialFailed, naming the cause."""

    def measure(self, recipe: Recipe) -> Mapping[str, float]:
        """What a recipe's merge itself is like (merging/measure.py): it is merged for that once more."""

    def close(self) -> None:
        """Frees what the engine holds outside this process's memory."""


def open_engine(plan: EnginePlan, parents: Sequence[Parent], donor: Parent) -> Engine:
    """The engine that a plan asks for, over some parents; ``donor`` gives config and tokenizer.

    Raises PlanError or RefusedInput if it cannot run here.
    """
    return _OPENERS[plan.kind](plan, parents, donor, choose_device(plan.device))


def require_runnable(plan: EnginePlan) -> None:
    """Raises PlanError or RefusedInput, before anything is loaded, if the engine cannot run here."""
    _CHECKS[plan.kind](plan, choose_device(plan.device))


def gpu_name(device: str) -> str:
    """The GPU's model name; empty for ``cpu``."""
    if device != "cuda":
        return ""
    import torch

    return torch.cuda.get_device_name()


def choose_device(wanted: str) -> str:
    """``auto`` becomes ``cuda`` where torch finds a GPU, else ``cpu``. Refuses a GPU that is missing."""
    if wanted == "cpu":
        return wanted
    import torch

    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise RefusedInput(
            "torch finds no GPU here, and a GPU's bits differ from a CPU's: use the machine with the GPU"
        )
    return ("cuda" if present else "cpu") if wanted == "auto" else wanted


def _open_transformers(plan: EnginePlan, parents: Sequence[Parent], donor: Parent, device: str) -> Engine:
    from .transformers import TransformersEngine

    return TransformersEngine(
        parents, donor, plan.dtype, device=device, threads=plan.threads, batch_size=plan.batch_size
    )


def _open_vllm(plan: EnginePlan, parents: Sequence[Parent], donor: Parent, device: str) -> Engine:
    from .vllm import VllmEngine

    return VllmEngine(parents, donor, plan, device)


def _check_transformers(plan: EnginePlan, device: str) -> None:
    """Nothing can be wrong beside the device, which is chosen by now."""


def _check_vllm(plan: EnginePlan, device: str) -> None:
    from .vllm_options import prepare_process, require_known

    prepare_process(device, plan.threads)
    require_known(plan.options)


_OPENERS = {"transformers": _open_transformers, "vllm": _open_vllm}
_CHECKS = {"transformers": _check_transformers, "vllm": _check_vllm}

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
    """A live model. The attributes can affect a score, besides recipe and task."""

    device: str
    threads: int
    batch_size: int
    versions: str

    @property
    def lm(self) -> LM:
        """The live model behind lm-eval's interface; the same object for every recipe."""

    def load(self, recipe: Recipe) -> LM:
        """Loads the recipe's model and returns it. Raises TrialFailed, naming the cause."""

    def measure(self, recipe: Recipe) -> Mapping[str, float]:
        """Measures of the recipe's merge (merging/measure.py), which is merged once more for them."""

    def close(self) -> None:
        """Frees the resources that the engine holds outside this process's memory."""


def open_engine(plan: EnginePlan, parents: Sequence[Parent], donor: Parent) -> Engine:
    """The plan's engine over these parents. ``donor`` gives config and tokenizer.

    Raises PlanError or RefusedInput if the engine cannot run here.
    """
    return _OPENERS[plan.kind](plan, parents, donor, choose_device(plan.device))


def require_runnable(plan: EnginePlan) -> None:
    """Raises PlanError or RefusedInput if the engine cannot run here. Loads no model."""
    _CHECKS[plan.kind](plan, choose_device(plan.device))


def gpu_name(device: str) -> str:
    """The GPU's model name; empty for ``cpu``."""
    if device != "cuda":
        return ""
    import torch

    return torch.cuda.get_device_name()


def choose_device(wanted: str) -> str:
    """``auto`` becomes ``cuda`` if torch finds a GPU, else ``cpu``.

    Raises RefusedInput for ``cuda`` without a GPU.
    """
    if wanted == "cpu":
        return wanted
    import torch

    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise RefusedInput(
            "torch finds no GPU here, and a CPU would give other bits: run on a machine with a GPU"
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
    """Accepts every plan. Only the device could be wrong, and it was checked before."""


def _check_vllm(plan: EnginePlan, device: str) -> None:
    from .vllm_options import prepare_process, require_known

    prepare_process(device, plan.threads)
    require_known(plan.options)


_OPENERS = {"transformers": _open_transformers, "vllm": _open_vllm}
_CHECKS = {"transformers": _check_transformers, "vllm": _check_vllm}

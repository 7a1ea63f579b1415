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
    device = choose_device(plan.device)
    if plan.kind == "vllm":
        from .vllm import VllmEngine

        return VllmEngine(parents, donor, plan, device)
    from .transformers import TransformersEngine

    return TransformersEngine(
        parents, donor, plan.dtype, device=device, threads=plan.threads, batch_size=plan.batch_size
    )


def require_runnable(plan: EnginePlan) -> None:
    """Raises PlanError or RefusedInput, before anything is loaded, if the engine cannot run here."""
    device = choose_device(plan.device)
    if plan.kind == "vllm":
        from .vllm_options import prepare_process, require_known

        prepare_process(device, plan.threads)
        require_known(plan.options)


def choose_device(wanted: str) -> str:
    """``auto`` becomes ``cuda`` where torch sees a GPU, else ``cpu``. Refuses a GPU that is not there."""
    import torch

    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise RefusedInput(
            "torch sees no GPU here, and bits made on one differ from the CPU's: use that machine"
        )
    return ("cuda" if present else "cpu") if wanted == "auto" else wanted

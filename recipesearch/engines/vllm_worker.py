"""The code inside vLLM's own worker: the merge, streamed directly into the live model.

vLLM mixes ``RecipeWorker`` into each of its workers (``worker_extension_cls``). With tensor parallelism every
rank therefore holds the parents, merges whole tensors and loads its shard. Only the recipe is sent to it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import TrialFailed
from ..merging.measure import measure
from ..merging.resident import ResidentParents
from ..merging.stream import Merger
from ..recipe import Parent, Recipe

if TYPE_CHECKING:
    Stream = Iterator[tuple[str, torch.Tensor]]

_HEAD = "lm_head.weight"
_EMBEDDING = re.compile(r"(embed_tokens|wte|embed_in|word_embeddings)\.weight$")
_RELOAD = ("layerwise", "inplace")  # the modules whose loggers report unloaded weights
_UNLOADED = re.compile("Failed to load weights|weights were not loaded")


class RecipeWorker:
    """The methods added to vLLM's worker. Their names must not be names of the worker's own methods."""

    device: torch.device
    model_config: Any
    model_runner: Any
    vllm_config: Any

    def open_parents(self, folders: Mapping[Parent, Path]) -> int:
        """Opens the parents, memory-mapped if possible. Returns torch's thread count in this process."""
        device = str(self.device)
        self._recipe_merger = Merger(ResidentParents(folders, device), device)
        self._recipe_shapes: dict[str, torch.Size] = {}
        return torch.get_num_threads()

    def load_recipe(self, recipe: Recipe) -> tuple[str, Exception | None]:
        """Merges a recipe into the live model. Returns its digest, and the error or None.

        The first recipe defines the tensors of the model. It must be the checkpoint that vLLM loaded, and the
        canary self-test proves that it covers the model. Errors are returned, and together with the digest:
        an exception that is raised, or returned alone, loses its type between processes, and the other ranks'
        answers are then read as answers to the next call.

        The error is TrialFailed if the merge is not finite or its tensors are not the live model's, and
        RefusedInput for a recipe that mergekit rejects. The live model is then a mixture until the next load.
        """
        try:
            self._load_recipe(recipe)
        except Exception as error:
            return recipe.digest, error
        return recipe.digest, None

    @torch.inference_mode()
    def measure_recipe(self, recipe: Recipe) -> dict[str, float]:
        """Measures of the recipe's merge."""
        return measure(self._recipe_merger.stream(recipe))

    @torch.inference_mode()
    def forget_states(self) -> None:
        """Zeroes the KV cache. A NaN in the cache would outlive its request and spoil every later recipe.

        Attention multiplies the entries after a sequence's end, in its last block, by 0,
        and 0 times NaN is NaN.
        """
        for states in self.model_runner.kv_caches:
            states.zero_()

    def _load_recipe(self, recipe: Recipe) -> None:
        model = self.get_model()  # type: ignore[attr-defined]
        seen: dict[str, torch.Size] = {}
        stream = self._with_tied_head(self._checked(recipe, seen), model)
        try:
            with _require_all_loaded(_weightless_classes(model)):
                self.reload_weights(weights_iterator=stream)  # type: ignore[attr-defined]
        except BaseException:
            self._close_half_loaded(model)
            raise
        self._recipe_shapes = self._recipe_shapes or seen

    def _checked(self, recipe: Recipe, seen: dict[str, torch.Size]) -> Stream:
        """The merge's tensors. Raises TrialFailed unless names and shapes are the first recipe's.

        vLLM would leave missing tensors uninitialised.
        """
        known = self._recipe_shapes
        for name, tensor in self._recipe_merger.stream(recipe):
            if known and name not in known and name != _HEAD:
                raise TrialFailed(f"incompatible: the live model has no tensor '{name}'")
            if known.get(name, tensor.shape) != tensor.shape:
                raise TrialFailed(
                    f"incompatible: '{name}' is {tuple(tensor.shape)}, not {tuple(known[name])}"
                )
            seen[name] = tensor.shape
            yield name, tensor
        if missing := known.keys() - seen.keys():
            raise TrialFailed(f"incompatible: the merge has no tensor '{min(missing)}'")

    def _with_tied_head(self, stream: Stream, model: torch.nn.Module) -> Stream:
        """Gives a tied head its embeddings, as transformers does for a checkpoint without a head.

        On a CPU vLLM packs embeddings and head separately, and a head that is not sent again keeps the
        weights of the previous recipe. Models without a head module (Gemma) reject a head.
        """
        tied = bool(getattr(self.model_config.hf_config, "tie_word_embeddings", False))
        owns_head = hasattr(model, "lm_head")
        head = embedding = None
        for name, tensor in stream:
            if name == _HEAD:
                head = tensor
            if name != _HEAD or (owns_head and not tied):
                yield name, tensor
            if _EMBEDDING.search(name):
                embedding = tensor
        if not tied or embedding is None:
            return
        if head is not None and not torch.equal(head, embedding):
            raise TrialFailed(
                f"incompatible: the live model ties its embeddings and '{_HEAD}', which differ in the merge"
            )
        if owns_head:
            yield _HEAD, embedding

    def _close_half_loaded(self, model: torch.nn.Module) -> None:
        """Ends an unfinished reload, whose collected tensors would otherwise become part of the next one."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload.layerwise import finalize_layerwise_reload

        with set_current_vllm_config(self.vllm_config):
            finalize_layerwise_reload(model, self.model_config)


def _weightless_classes(model: torch.nn.Module) -> set[str]:
    """The classes of modules without checkpoint tensors: rotary tables, Gemma's normalizer."""
    weightless: dict[str, bool] = {}
    for module in model.modules():
        weights = {name for name, _ in module.named_parameters(recurse=False)}
        weights |= module._buffers.keys() - module._non_persistent_buffers_set
        name = type(module).__name__
        weightless[name] = weightless.get(name, True) and not weights
    return {name for name, none in weightless.items() if none}


@contextmanager
def _require_all_loaded(weightless: Container[str]) -> Iterator[None]:
    """Raises TrialFailed if vLLM warns that a parameter kept its old weights. Only vLLM's log reports it.

    For modules of the ``weightless`` classes the same warning has no meaning and is ignored.
    """
    warnings = _UnloadedWarnings(weightless)
    loggers = [logging.getLogger(f"vllm.model_executor.model_loader.reload.{name}") for name in _RELOAD]
    for logger in loggers:
        logger.addFilter(warnings)
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(warnings)
    if warnings.unloaded:
        raise TrialFailed(f"incompatible: vLLM left parameters as they were: {warnings.unloaded[0]}")


class _UnloadedWarnings(logging.Filter):
    """Collects the warnings about parameters that were not loaded, and keeps them out of the log."""

    def __init__(self, weightless: Container[str]) -> None:
        super().__init__()
        self._weightless = weightless
        self.unloaded: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record stays in the log, because it is about something else."""
        message = record.getMessage()
        if not _UNLOADED.search(message):
            return True
        if message.partition(":")[0] not in self._weightless:
            self.unloaded.append(message)
        return False

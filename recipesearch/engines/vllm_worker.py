"""What runs inside vLLM's own worker: the merge, streamed straight into the live model.

vLLM mixes ``RecipeWorker`` into each of its workers (``worker_extension_cls``), so with tensor parallelism
every rank holds the parents, merges whole tensors and loads its shard. Only the recipe crosses.
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
_RELOAD = ("layerwise", "inplace")  # the modules whose loggers tell
_UNLOADED = re.compile("Failed to load weights|weights were not loaded")


class RecipeWorker:
    """The methods that vLLM's worker gains; their names must not be names of its own."""

    device: torch.device
    model_config: Any
    model_runner: Any
    vllm_config: Any

    def open_parents(self, folders: Mapping[Parent, Path]) -> int:
        """Makes the parents ready, memory-mapped where they can be. Returns torch's thread count here."""
        device = str(self.device)
        self._recipe_merger = Merger(ResidentParents(folders, device), device)
        self._recipe_shapes: dict[str, torch.Size] = {}
        return torch.get_num_threads()

    def load_recipe(self, recipe: Recipe) -> tuple[str, Exception | None]:
        """Merges a recipe into the live model and returns its digest, and what went wrong, if anything.

        The first recipe tells what the model consists of: it has to be the checkpoint that was loaded, and
        the canary proves that it covers the model. What goes wrong is returned, and beside something: between
        processes an exception, raised or returned, loses its type, and the other ranks' answers then wait
        for the next question. It is TrialFailed if the merge is not finite or its tensors are not the live
        model's, and RefusedInput for what mergekit refuses; the model is then a mixture, and whole after the
        next load.
        """
        try:
            self._load_recipe(recipe)
        except Exception as error:
            return recipe.digest, error
        return recipe.digest, None

    @torch.inference_mode()
    def measure_recipe(self, recipe: Recipe) -> dict[str, float]:
        """What a recipe's merge itself is like."""
        return measure(self._recipe_merger.stream(recipe))

    @torch.inference_mode()
    def forget_states(self) -> None:
        """Zeroes the KV cache. A NaN in it would outlive its request, and every recipe after this one.

        Attention weighs what lies behind a sequence's end in its last block with 0, and 0 times NaN is NaN.
        """
        for states in self.model_runner.kv_caches:
            states.zero_()

    def _load_recipe(self, recipe: Recipe) -> None:
        model = self.get_model()  # type: ignore[attr-defined]
        seen: dict[str, torch.Size] = {}
        stream = self._with_tied_head(self._checked(recipe, seen), model)
        try:
            with _no_parameter_left(_without_weights(model)):
                self.reload_weights(weights_iterator=stream)  # type: ignore[attr-defined]
        except BaseException:
            self._close_half_loaded(model)
            raise
        self._recipe_shapes = self._recipe_shapes or seen

    def _checked(self, recipe: Recipe, seen: dict[str, torch.Size]) -> Stream:
        """The merge, tensor by tensor those of the first one: vLLM leaves uninitialised what is missing."""
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
        """Gives a tied head its embeddings, as transformers does when it loads a checkpoint without a head.

        On a CPU vLLM packs embeddings and head apart, and a head that is not sent again keeps the weights of
        the recipe before. Models without a head module (Gemma) refuse one.
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
        """Ends a reload that broke off. Else the next one would add to the tensors it had collected."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload.layerwise import finalize_layerwise_reload

        with set_current_vllm_config(self.vllm_config):
            finalize_layerwise_reload(model, self.model_config)


def _without_weights(model: torch.nn.Module) -> set[str]:
    """The classes of modules that hold only what no checkpoint has: rotary tables, Gemma's normalizer."""
    weightless: dict[str, bool] = {}
    for module in model.modules():
        weights = {name for name, _ in module.named_parameters(recurse=False)}
        weights |= module._buffers.keys() - module._non_persistent_buffers_set
        name = type(module).__name__
        weightless[name] = weightless.get(name, True) and not weights
    return {name for name, none in weightless.items() if none}


@contextmanager
def _no_parameter_left(weightless: Container[str]) -> Iterator[None]:
    """Raises TrialFailed if vLLM warns that a parameter kept its old weights: it says so in its log only.

    It says the same of modules of the ``weightless`` classes, where it means nothing.
    """
    notes = _Notes(weightless)
    loggers = [logging.getLogger(f"vllm.model_executor.model_loader.reload.{name}") for name in _RELOAD]
    for logger in loggers:
        logger.addFilter(notes)
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(notes)
    if notes.unloaded:
        raise TrialFailed(f"incompatible: vLLM left parameters as they were: {notes.unloaded[0]}")


class _Notes(logging.Filter):
    """Keeps the warnings about parameters that were not loaded, and keeps them out of the log."""

    def __init__(self, weightless: Container[str]) -> None:
        super().__init__()
        self._weightless = weightless
        self.unloaded: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is about something else."""
        message = record.getMessage()
        if not _UNLOADED.search(message):
            return True
        if message.partition(":")[0] not in self._weightless:
            self.unloaded.append(message)
        return False

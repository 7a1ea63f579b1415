"""Merger: a recipe becomes a stream of (name, tensor), equal bit for bit to mergekit's ``run_merge``.

mergekit's kernels do the arithmetic (``merge_tensors``, one call per tensor), and mergekit's own resolver
reads filters, gradients and defaults. This module adds the order. ``run_merge`` seeds once and then merges
the tensors in the order of their names in the parents. The same order here gives every tensor the same random
numbers. If two tensors share a name in the parents, mergekit's own scheduler gives the order. The layer walk
follows ``mergekit.plan``. mergekit's own in-memory path does not run under current pydantic.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mergekit import merge_methods
from mergekit.architecture import (
    ConfiguredModelArchitecture,
    ConfiguredModuleArchitecture,
    WeightInfo,
    get_architecture_info,
)
from mergekit.common import dtype_from_name
from mergekit.config import ConfigReader, MergeConfiguration, OutputSliceDefinition
from mergekit.graph import Executor
from mergekit.merge_methods import merge_tensors
from mergekit.merge_methods.base import BasePolicy
from mergekit.merge_methods.buffers import copy_non_floating_buffer
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from mergekit.options import MergeOptions
from mergekit.parameter_resolver import resolve_parameters
from mergekit.plan import MergePlanner

from ..errors import RefusedInput, TrialFailed
from ..recipe import Parent, Recipe, Slice
from ..recipe.mergekit_yaml import to_mergekit
from ..recipe.methods import METHODS
from .draws import Draws
from .resident import ResidentParents
from .vocabulary import Vocabulary


@dataclass(frozen=True)
class _Job:
    """One output tensor: the weight, the inputs that it is merged from, and the reader of its parameters."""

    weight: WeightInfo
    inputs: tuple[tuple[Parent, WeightInfo], ...]
    settings: ConfigReader


class Merger:
    """Merges recipes over one set of parents. Not thread-safe, because it owns the merge's random numbers."""

    def __init__(self, parents: ResidentParents, device: str = "cpu") -> None:
        self._parents = parents
        self._draws = Draws(torch.device(device))
        self._architectures: dict[Parent, ConfiguredModelArchitecture] = {}
        self._layers: dict[tuple[Parent, int], list[WeightInfo]] = {}
        self._vocabularies: dict[Hashable, Vocabulary] = {}

    def stream(self, recipe: Recipe) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields the merged model's tensors under their Hugging Face names, in the order of ``run_merge``.

        Tensors may share memory with a parent: copy them, never write to them. The caller's random state is
        unchanged, even between two tensors. Raises TrialFailed, naming the tensor, for NaN or Inf, and
        RefusedInput for a recipe that mergekit rejects.
        """
        with _refusals(RuntimeError, ValueError):
            config = self._config(recipe)
            jobs = self._in_order(recipe, config, list(self._plan(recipe, config)))
        self._draws.seed(recipe.seed)
        out_dtype = dtype_from_name(recipe.out_dtype)
        for job in jobs:
            merged = self._merge(recipe, job)
            forced = dtype_from_name(job.weight.force_dtype) or out_dtype
            merged = merged if forced is None else merged.to(forced)
            self._require_finite(merged, job, recipe)
            yield job.weight.name, merged

    def vocabulary(self, recipe: Recipe) -> Vocabulary | None:
        """The vocabulary that a recipe aligns its parents to; None if it aligns none.

        Recipes with equal vocabularies share one object.
        """
        if recipe.tokenizer is None:
            return None
        key = (recipe.tokenizer, recipe.base, frozenset(recipe.parents()))
        if key not in self._vocabularies:
            self._vocabularies[key] = Vocabulary(self._config(recipe))
        return self._vocabularies[key]

    def _config(self, recipe: Recipe) -> MergeConfiguration:
        return MergeConfiguration.model_validate(
            to_mergekit(recipe, lambda parent: str(self._parents.reference(parent)))
        )

    def _plan(self, recipe: Recipe, config: MergeConfiguration) -> Iterator[_Job]:
        """Every output tensor, in the order of ``MergePlanner.plan_module``."""
        self._configure(recipe, config)
        if len(recipe.slices[0].sources) != len(recipe.slices[-1].sources):
            raise RefusedInput(
                "the first and the last slice have different numbers of sources, which mergekit miscounts; "
                "list the same number of sources, with weight 0 where unwanted"
            )
        if config.models and recipe.base and recipe.base not in [s.parent for s in recipe.slices[0].sources]:
            raise RefusedInput("the base is not listed under 'models', where mergekit would add it; list it")
        lead = recipe.base or recipe.parents()[0]
        architecture = self._module(lead)
        readers = [ConfigReader(config=config, t=0, slice_out=part) for part in _slices(recipe, config)]
        for weight in architecture.pre_weights():
            yield from self._job(recipe.slices[0], readers[0], weight, None)
        position = 0
        for part, reader in zip(recipe.slices, readers, strict=True):
            depth = self._depth(part)
            for index in range(depth):
                settings = reader.with_t(index / (depth - 1) if depth > 1 else 1)
                for row, weight in enumerate(self._layer(lead, position)):
                    yield from self._job(part, settings, weight, (index, row))
                position += 1
        for weight in architecture.post_weights():
            yield from self._job(recipe.slices[-1], readers[-1], weight, None)

    def _job(
        self, part: Slice, settings: ConfigReader, weight: WeightInfo, place: tuple[int, int] | None
    ) -> Iterator[_Job]:
        """The job of one output weight; no job if the weight is optional and no parent has it.

        ``place`` is (layer within the slice, row within the layer), None outside the layers.
        """
        inputs = []
        for source in part.sources:
            source_weight = weight
            if place is not None:
                layer = (source.layers or (0, 0))[0] + place[0]
                source_weight = self._layer(source.parent, layer)[place[1]]
            inputs.append((source.parent, source_weight))
        if not weight.optional or any(self._parents.holds(*entry) for entry in inputs):
            yield _Job(weight, tuple(inputs), settings)

    def _in_order(self, recipe: Recipe, config: MergeConfiguration, jobs: list[_Job]) -> list[_Job]:
        """The jobs in mergekit's order: by the greatest name under which a parent stores an input.

        This leaves the order open if layers are repeated or shifted, or if only some parents are
        tied. The order decides bits if the method draws random numbers. In that case mergekit's own
        plan is built and read.
        """
        labels = [max(self._parents.stored_name(*entry) for entry in job.inputs) for job in jobs]
        if len(set(labels)) == len(labels) or not METHODS[recipe.method].random:
            return [job for _, job in sorted(zip(labels, jobs, strict=True), key=lambda pair: pair[0])]
        lead = self._architectures[recipe.base or recipe.parents()[0]]
        planner = MergePlanner(config.model_copy(deep=True), lead.info, MergeOptions(), lead.config)
        tasks = [handle.task() for handle in Executor(planner.plan_to_disk("")).schedule.tasks]
        merges = [task.output_weight.name for task in tasks if isinstance(task, ExecuteMergeMethodTask)]
        place = {name: index for index, name in enumerate(merges)}
        return sorted(jobs, key=lambda job: place[job.weight.name])

    def _module(self, parent: Parent) -> ConfiguredModuleArchitecture:
        (name,) = self._architectures[parent].info.modules
        return self._architectures[parent].get_module(name)

    def _depth(self, part: Slice) -> int:
        """The number of layers of a slice. A source without a range has all layers of its own model."""
        depths = {
            self._module(source.parent).num_layers()
            if source.layers is None
            else source.layers[1] - source.layers[0]
            for source in part.sources
        }
        if len(depths) != 1:
            raise RefusedInput(f"the sources of a slice have different numbers of layers: {sorted(depths)}")
        return depths.pop()

    def _layer(self, parent: Parent, index: int) -> list[WeightInfo]:
        """A layer's weights, cached because mergekit validates each name at every call."""
        key = (parent, index)
        if key not in self._layers:
            self._layers[key] = self._module(parent).layer_weights(index)
        return self._layers[key]

    def _merge(self, recipe: Recipe, job: _Job) -> torch.Tensor:
        method = merge_methods.get(recipe.method)
        named = {self._parents.reference(parent): weight.name for parent, weight in job.inputs}
        base = job.settings.base_model if method.spec.contract.base != BasePolicy.IGNORED else None
        with _refusals(RuntimeError, ValueError):
            shared, per_input = resolve_parameters(
                method.spec,
                tensor_name=job.weight.name,
                inputs=named,
                sources=job.settings.parameter_sources,
                base_model=job.settings.base_model,
                t=job.settings.t,
            )
            loaded = self._inputs(recipe, job)
            present = [(ref, tensor) for ref, tensor in zip(named, loaded, strict=True) if tensor is not None]
            ids = [ref for ref, _ in present]
            method.validate_inputs(ids, job.settings.base_model, group_name=job.weight.name)
        tensors = [tensor for _, tensor in present]
        buffer: torch.Tensor | None = copy_non_floating_buffer(tensors, job.weight.name)
        if buffer is not None:
            return buffer
        for parameter in method.spec.input_parameters:
            shared[parameter.name] = {
                ref: per_input[ref][parameter.name] for ref in ids if parameter.name in per_input[ref]
            }
        with _refusals(ValueError), self._draws.own(), torch.no_grad():
            merged: torch.Tensor = merge_tensors(
                tensors,
                method,
                parameters=shared,
                ids=ids,
                base_index=ids.index(base) if base is not None else None,
                name=job.weight.name,
            )
        return merged

    def _inputs(self, recipe: Recipe, job: _Job) -> list[torch.Tensor | None]:
        """The parents' tensors, in order.

        Tensors with one row per token are aligned if the recipe has a tokenizer.
        """
        vocabulary, axis = self.vocabulary(recipe), job.weight.vocabulary_axis
        if vocabulary is None or axis is None:
            return [self._parents.tensor(parent, weight, recipe.dtype) for parent, weight in job.inputs]
        # Here mergekit also rejects by KeyError and AssertionError.
        with _refusals(AssertionError, KeyError):
            aligned = self._parents.aligned(vocabulary, job.inputs, axis, recipe.dtype)
        return [aligned.get(parent) for parent, _ in job.inputs]

    def _configure(self, recipe: Recipe, config: MergeConfiguration) -> None:
        """Looks up each parent's architecture once."""
        if all(parent in self._architectures for parent in recipe.parents()):
            return
        info = get_architecture_info(config, MergeOptions())
        if len(info.modules) != 1:
            raise RefusedInput("models with several modules (vision, encoder-decoder) cannot be merged")
        for parent in recipe.parents():
            model_config = self._parents.reference(parent).config()
            self._architectures[parent] = ConfiguredModelArchitecture(info=info, config=model_config)

    def _require_finite(self, merged: torch.Tensor, job: _Job, recipe: Recipe) -> None:
        """Raises TrialFailed for NaN or Inf in a merged tensor.

        A NaN model would still answer: argmax over NaN looks like chance accuracy.
        """
        if not merged.is_floating_point() or _is_finite(merged):
            return
        for parent, weight in job.inputs:
            tensor = self._parents.tensor(parent, weight, recipe.dtype)
            if tensor is not None and not _is_finite(tensor):
                raise TrialFailed(
                    f"non-finite: parent {parent.reference} holds NaN or Inf in '{weight.name}'"
                )
        raise TrialFailed(f"non-finite: the merge gives NaN or Inf in '{job.weight.name}'")


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all entries are finite.

    The extremes decide, because both are NaN if any entry is. This takes a tenth of isfinite's time.
    """
    return tensor.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


@contextmanager
def _refusals(*kinds: type[Exception]) -> Iterator[None]:
    """Turns mergekit's rejections into RefusedInput.

    mergekit rejects by RuntimeError and ValueError. A RuntimeError of its kernels comes from torch instead.
    """
    try:
        yield
    except kinds as error:
        raise RefusedInput(f"mergekit refuses this recipe: {error}") from error


def _slices(recipe: Recipe, config: MergeConfiguration) -> list[OutputSliceDefinition]:
    """The configuration's slices; ``models`` is one slice of all layers (plan.normalize_config)."""
    if config.slices:
        return list(config.slices)
    sources = [
        {"model": model.model, "layer_range": (0, 0), "parameters": model.parameters}
        for model in config.models or []
    ]
    return [OutputSliceDefinition.model_validate({"sources": sources})]

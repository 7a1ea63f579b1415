"""The parents' tensors, read once and kept for all recipes of a study."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import torch
from mergekit.architecture import WeightInfo
from mergekit.common import ModelReference
from mergekit.io.tasks import LoaderCache, LoadTensor

from ..recipe import Parent
from .vocabulary import Vocabulary


class ResidentParents:
    """Tensors by parent and weight, memory-mapped if the file's dtype and device already match.

    mergekit's own ``LoadTensor`` reads the tensors (aliases, tied names, converted checkpoints), so a weight
    is the same tensor here as in ``run_merge``.
    """

    def __init__(self, directories: Mapping[Parent, Path], device: str = "cpu") -> None:
        self._references = {
            parent: ModelReference.parse(str(directory)) for parent, directory in directories.items()
        }
        self._device = torch.device(device)
        self._tensors: dict[tuple[Parent, str, str | None], torch.Tensor | None] = {}
        self._aligned: dict[Hashable, dict[Parent, torch.Tensor]] = {}

    def reference(self, parent: Parent) -> ModelReference:
        """mergekit's reference to the parent: its local folder."""
        return self._references[parent]

    def tensor(self, parent: Parent, weight: WeightInfo, dtype: str | None) -> torch.Tensor | None:
        """The parent's tensor for a weight, in ``dtype`` (None: as stored); None if it has no such weight.

        ``weight.force_dtype`` overrides ``dtype``, as in mergekit. The caller must not write to the tensor.
        """
        key = (parent, weight.name, weight.force_dtype or dtype)
        if key not in self._tensors:
            loaded = self._load(parent, weight, dtype)
            self._tensors[key] = None if loaded is None else loaded.to(self._device)
        return self._tensors[key]

    def aligned(
        self,
        vocabulary: Vocabulary,
        inputs: Sequence[tuple[Parent, WeightInfo]],
        axis: int,
        dtype: str | None,
    ) -> Mapping[Parent, torch.Tensor]:
        """The parents' tensors for a weight with the rows of ``vocabulary`` along ``axis``, computed once.

        Parents without this weight are left out. Averages are computed and rounded on the
        CPU, as in mergekit.
        """
        # The order of two parents does not matter, because their sum is the same either way.
        order = frozenset(p for p, _ in inputs) if len(inputs) < 3 else tuple(p for p, _ in inputs)
        key = (vocabulary, order, inputs[0][1].name, inputs[0][1].force_dtype or dtype)
        if key not in self._aligned:
            loaded = {
                self._references[parent]: tensor
                for parent, weight in inputs
                if (tensor := self._load(parent, weight, dtype)) is not None
            }
            rows = vocabulary.align(loaded, axis)
            self._aligned[key] = {
                parent: rows[self._references[parent]].to(self._device)
                for parent, _ in inputs
                if self._references[parent] in rows
            }
        return self._aligned[key]

    def _load(self, parent: Parent, weight: WeightInfo, dtype: str | None) -> torch.Tensor | None:
        loaded: torch.Tensor | None = LoadTensor(
            model=self._references[parent],
            tensor=weight.name,
            dtype=weight.force_dtype or dtype,
            optional=weight.optional,
            aliases=weight.aliases,
            tied_names=weight.tied_names,
        ).execute()
        return loaded

    def holds(self, parent: Parent, weight: WeightInfo) -> bool:
        """Whether the parent's files contain the weight under its own name or an alias (not a tied name)."""
        held = self._held(parent)
        return any(name in held for name in (weight.name, *(weight.aliases or ())))

    def stored_name(self, parent: Parent, weight: WeightInfo) -> str:
        """The name under which ``LoadTensor`` finds a weight, perhaps an alias or tied name; '' if none."""
        held = self._held(parent)
        names = (weight.name, *(weight.aliases or ()), *(weight.tied_names or ()))
        return next((name for name in names if name in held), "")

    def _held(self, parent: Parent) -> Mapping[str, str]:
        paths: Mapping[str, str] = LoaderCache().get(self._references[parent]).index.tensor_paths
        return paths

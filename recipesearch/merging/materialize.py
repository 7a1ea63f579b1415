"""Builds parents that are not plain folders (recipes, adapters) as folders, once, in the cache by digest."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from mergekit.common import ModelReference

from ..errors import StudyError
from ..files import cache_dir, whole_folder
from ..parents.identify import model_directory
from ..recipe import Parent, Recipe, TokenizerFolder
from .checkpoint import write_checkpoint
from .layered import configs, output_config
from .resident import ResidentParents
from .settle import settle
from .stream import Merger


def directories(parents: Iterable[Parent]) -> dict[Parent, Path]:
    """Each parent's local model folder, built first if needed. Recursive over recipes."""
    return {parent: _directory(parent) for parent in parents}


def merger(parents: Iterable[Parent], device: str = "cpu") -> Merger:
    """A Merger over these parents, whose folders are built first if needed."""
    return Merger(ResidentParents(directories(parents), device), device)


def built_folder(digest: str) -> Path:
    """The cache folder of a recipe or adapter parent.

    Its name covers the versions and the number of threads that the parent's bits depend on.
    """
    # Hashed: torch's version may contain a '+', which mergekit would read as an adapter.
    build = (version("mergekit"), version("torch"), torch.get_num_threads(), digest)
    return cache_dir() / "models" / hashlib.sha256(repr(build).encode()).hexdigest()


def _directory(parent: Parent) -> Path:
    if isinstance(parent.source, str) and not parent.adapter:
        return model_directory(parent)
    target = built_folder(parent.digest)
    if not target.exists():
        try:
            _build(parent, target)
        except (StudyError, OSError):
            if not target.exists():  # else another worker was faster, and its folder is identical
                raise
    return target


def _build(parent: Parent, target: Path) -> None:
    if parent.adapter:
        _write_adapted(parent, target)
    else:
        assert isinstance(parent.source, Recipe)
        write_recipe(parent.source, target)


def write_recipe(recipe: Recipe, target: Path, device: str = "cpu") -> Path:
    """Merges a recipe into a model folder. Raises the errors of Merger.stream and write_checkpoint."""
    recipe = settled(recipe)
    folders = directories(recipe.parents())
    merges = Merger(ResidentParents(folders, device), device)
    config, donor = output_config(recipe, configs(folders)), folders[recipe.donor]
    return write_checkpoint(config, merges.stream(recipe), donor, target, merges.vocabulary(recipe))


def settled(recipe: Recipe) -> Recipe:
    """The recipe with a tokenizer that means the same in every run (see ``settle.settle``)."""
    tokenizer = recipe.tokenizer
    if tokenizer is None or isinstance(tokenizer.source, TokenizerFolder):
        return recipe
    parents = sorted(recipe.parents(), key=lambda parent: parent != recipe.base)
    return replace(recipe, tokenizer=settle(tokenizer, list(directories(parents).values())).tokenizer)


def _write_adapted(parent: Parent, target: Path) -> None:
    """Merges the adapter into its model with mergekit's own code.

    mergekit would trust a half-written folder in its cache. It therefore gets a temporary cache inside the
    partial folder, which no other process uses and which is removed with the partial folder after a kill.
    """
    source = parent.source
    digest = source.digest if isinstance(source, Recipe) else parent.digest
    plain = _directory(Parent(digest, source, parent.revision))
    with whole_folder(target) as partial, tempfile.TemporaryDirectory(dir=partial) as scratch:
        reference = ModelReference.parse(f"{plain}+{parent.adapter}")
        shutil.copytree(reference.merged(cache_dir=scratch).local_path(), partial, dirs_exist_ok=True)
        for file in plain.iterdir():
            if file.is_file() and "safetensors" not in file.name and not (partial / file.name).exists():
                shutil.copy(file, partial)

"""A parent's shapes, whether or not its files exist yet. Light, unless a recipe has to be built."""

from __future__ import annotations

from pathlib import Path

from ..parents.headers import Checkpoint, read_checkpoint
from ..parents.identify import model_directory
from ..recipe import Parent, Recipe


def shapes_folder(parent: Parent, threads: int | None = None) -> Path:
    """A local folder with a parent's vocabulary and tokenizer: for a recipe, the folder of its donor.

    A recipe with a tokenizer of its own is built, by ``threads`` threads, since no other folder has its rows.
    """
    while isinstance(parent.source, Recipe):
        if parent.source.tokenizer:
            return _built(parent, threads)
        parent = parent.source.donor
    return model_directory(parent)


def shapes(parent: Parent, threads: int | None = None) -> Checkpoint:
    """A parent's config and headers; for a recipe, those of the model that it will become."""
    if not isinstance(parent.source, Recipe) or parent.source.tokenizer:
        return read_checkpoint(shapes_folder(parent, threads))
    checkpoint = shapes(parent.source.donor, threads)
    path = parent.source.path
    return checkpoint if path is None else checkpoint.with_depth(len(path))


def _built(parent: Parent, threads: int | None) -> Path:
    import torch

    from ..merging.materialize import directories

    if threads:  # the built model's bits depend on them
        torch.set_num_threads(threads)
    return directories([parent])[parent]

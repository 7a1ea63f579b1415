"""A parent's shapes, whether or not its files exist yet. Light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..recipe import Parent, Recipe
from .headers import Checkpoint, read_checkpoint
from .identify import model_directory

Build = Callable[[Parent], Path]


def shapes_folder(parent: Parent, build: Build) -> Path:
    """A local folder with a parent's vocabulary and tokenizer: for a recipe, the folder of its donor.

    A recipe with a tokenizer of its own is built by ``build``, since no other folder has its rows.
    """
    while isinstance(parent.source, Recipe):
        if parent.source.tokenizer:
            return build(parent)
        parent = parent.source.donor
    return model_directory(parent)


def shapes(parent: Parent, build: Build) -> Checkpoint:
    """A parent's config and headers; for a recipe, those of the model that the recipe will become."""
    if not isinstance(parent.source, Recipe) or parent.source.tokenizer:
        return read_checkpoint(shapes_folder(parent, build))
    checkpoint = shapes(parent.source.donor, build)
    path = parent.source.path
    return checkpoint if path is None else checkpoint.with_depth(len(path))

"""A parent's shapes, whether or not its files are there yet. Light, unless a recipe has to be built."""

from __future__ import annotations

from pathlib import Path

from ..parents.headers import Checkpoint, read_checkpoint
from ..parents.identify import model_directory
from ..recipe import Parent, Recipe


def shapes_folder(parent: Parent) -> Path:
    """A local folder with a parent's vocabulary and tokenizer: a recipe's base's, or its first parent's.

    A recipe with a tokenizer of its own is built for that, if it is not yet: no other folder has those.
    """
    while isinstance(parent.source, Recipe):
        if parent.source.tokenizer:
            from ..merging.materialize import directories

            return directories([parent])[parent]
        parent = parent.source.base or parent.source.parents()[0]
    return model_directory(parent)


def shapes(parent: Parent) -> Checkpoint:
    """A parent's config and headers; a recipe's as they will be once it is built."""
    if not isinstance(parent.source, Recipe) or parent.source.tokenizer:
        return read_checkpoint(shapes_folder(parent))
    checkpoint = shapes(parent.source.base or parent.source.parents()[0])
    path = parent.source.path
    return checkpoint if path is None else checkpoint.with_depth(len(path))

"""A base of nothing but config and tokenizer, from which stock mergekit takes a path's config.

Stock mergekit gives the result its base's config with another number of layers. Where that has a list with an
entry for each layer (Qwen's ``layer_types``), transformers refuses to save it, and mergekit fails after the
tensors. passthrough reads no tensor of its base: so the base may be a folder with the right config already.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ..parents.headers import COMPANIONS
from ..parents.shapes import shapes_folder
from ..recipe import Parent, Recipe
from ..recipe.methods import METHODS


def with_stub(recipe: Recipe, target: Path) -> Recipe | None:
    """The recipe with a stub at ``target`` for its base, for stock mergekit only; None if it needs none."""
    if recipe.path is None or METHODS[recipe.method].base != "ignored":
        return None
    from safetensors.torch import save_file

    from ..merging.layered import expected_config, has_lists, output_config
    from ..merging.materialize import directories

    config = output_config(recipe, expected_config)
    if not has_lists(config):
        return None
    config.save_pretrained(target)
    donor = shapes_folder(recipe.donor, lambda parent: directories([parent])[parent])
    for name in COMPANIONS:
        if (donor / name).exists():
            shutil.copy(donor / name, target / name)
    save_file({}, target / "model.safetensors", {"format": "pt"})
    return replace(recipe, base=Parent(f"stub of {recipe.digest}", str(target)))

"""A stub: a base with config and tokenizer only, from which stock mergekit takes a layer path's config.

Stock mergekit copies the base's config and changes its number of layers. If the config has a list with an
entry for each layer (Qwen's ``layer_types``), transformers refuses to save it, and mergekit fails after
writing the tensors. The method passthrough reads no tensor of its base, so the base may be a folder without
tensors and with the final config.
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
    """The recipe with a stub at ``target`` as its base, for stock mergekit only; None if it needs no stub."""
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

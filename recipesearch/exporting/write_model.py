"""Writes a recipe file's model to a folder, with the device and threads of the recipe's provenance."""

from __future__ import annotations

from pathlib import Path

from ..engines.opening import choose_device
from ..parents.identify import read_recipe


def write_model(recipe_file: Path, target: Path) -> Path:
    """Builds the model and returns its folder.

    Raises PlanError or RefusedInput for a recipe that cannot be merged, FileExistsError if the folder exists
    and is not empty.
    """
    recipe, provenance = read_recipe(recipe_file)
    import torch

    from ..merging.materialize import write_recipe

    device = choose_device(str(provenance.get("device", "cpu")))
    if threads := provenance.get("threads"):
        torch.set_num_threads(int(threads))
    return write_recipe(recipe, target.absolute(), device)

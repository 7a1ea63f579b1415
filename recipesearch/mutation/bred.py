"""The parents that a study has bred, as files beside it: recipes, and adapters in folders of their own.

``NAME.parents/DIGEST.yaml`` is a merge, ``NAME.parents/DIGEST.yaml+NAME.parents/KEY`` a mutant: references as
in any study file. A bred recipe refers to other bred parents by the files in the same folder. Light.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..files import write_text
from ..plan import Plan
from ..recipe import Parent, Recipe
from ..recipe.mergekit_yaml import to_yaml


def keep(plan: Plan, parent: Parent, origin: Mapping[str, Any]) -> str:
    """Writes a bred parent's recipe and its ancestors' recipes, unless the files exist.

    Returns the reference for a study file. The recipe's provenance contains ``origin`` (study, trial).
    """
    if isinstance(parent.source, Recipe):
        _write(plan.bred, parent.source, origin)
    return _refer(parent, plan.bred, Path(os.path.relpath(plan.bred, plan.folder.absolute())))


def _write(folder: Path, recipe: Recipe, origin: Mapping[str, Any]) -> None:
    target = folder / _file(recipe)
    if target.exists():
        return
    for parent in recipe.parents():
        if isinstance(parent.source, Recipe):
            _write(folder, parent.source, {})
    write_text(target, to_yaml(recipe, lambda parent: _refer(parent, folder, Path()), origin))


def _refer(parent: Parent, bred: Path, folder: Path) -> str:
    """A parent's reference for a file from which ``folder`` is the relative path to ``bred``.

    An adapter outside ``bred``, for instance from another study, has an absolute path.
    """
    plain = replace(parent, adapter=None).reference
    model = str(folder / _file(parent.source)) if isinstance(parent.source, Recipe) else plain
    if parent.adapter is None:
        return model
    adapter = Path(parent.adapter)
    return f"{model}+{folder / adapter.name if adapter.parent == bred else adapter}"


def _file(recipe: Recipe) -> str:
    return f"{recipe.digest[:16]}.yaml"

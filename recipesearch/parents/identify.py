"""From a reference in a study or recipe file to a Parent, by the content of its files. Light: no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..errors import PlanError, RefusedInput
from ..recipe import Parent, Recipe
from ..recipe.mergekit_yaml import from_yaml
from ..zoo import resolve
from .digest import adapter_digest, content_digest, joint_digest
from .headers import read_checkpoint
from .tokenizer_files import tokenizer_folder

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # not ../folder
_RECIPE_ENDINGS = (".yaml", ".yml")
_BUNDLED = re.compile(
    r"parent-[0-9a-f]{12}"
)  # a recipe next to the recipe that names it (exporting/bundle.py)
SCRIPT = "rebuild.sh"  # the stock mergekit commands of a bundle
# README.md gives the licence, which model cards of merges repeat.
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.jinja", "merges.txt", "README.md"]


def identify(reference: str, folder: Path) -> Parent:
    """The Parent of a reference: ``directory``, ``hub/id[@revision]``, ``recipe.yaml`` or ``zoo:name``.

    ``+adapter`` may follow. Relative paths start at ``folder``, the folder of the file that contains the
    reference. A hub id without a revision is pinned to the commit found. Raises RefusedInput for a missing,
    unsafe or damaged model, and PlanError for an unreadable recipe.
    """
    return _Reader().identify(reference, folder)


def adapted(parent: Parent, adapter: Path) -> Parent:
    """The parent with a PEFT adapter's folder. The parent must not have an adapter yet.

    Raises RefusedInput if the folder is not an adapter.
    """
    assert parent.adapter is None
    digest = joint_digest(parent.digest, adapter_digest(adapter))
    return Parent(digest, parent.source, parent.revision, str(adapter))


def locate(reference: str, folder: Path) -> Path | None:
    """The model folder of a reference, as in ``identify`` but without reading weights.

    A hub model is downloaded first. None for a recipe file and for a model with an adapter, which
    have no folder yet. Raises RefusedInput for a hub or zoo model that is not available. A local
    folder may not exist.
    """
    _require_plain(reference, folder)
    if "+" in reference or reference.endswith(_RECIPE_ENDINGS):
        return None
    return _find(reference, folder)[0]


def read_recipe(path: Path) -> tuple[Recipe, dict[str, Any]]:
    """A recipe file and its provenance. Raises PlanError or RefusedInput, naming the cause.

    Each ancestor is read once, even if many paths lead to it: their number grows fast over generations.
    """
    return _Reader().recipe(path)


def model_directory(parent: Parent) -> Path:
    """The local folder of a parent's model, without its adapter. Not for recipes (see materialize.py)."""
    assert isinstance(parent.source, str)
    if Path(parent.source).is_absolute():
        return Path(parent.source)
    return _snapshot(parent.source, parent.revision)


class _Reader:
    """Reads references and recipe files, each recipe file once: many paths can lead to one ancestor."""

    def __init__(self) -> None:
        self._open: list[Path] = []  # the recipe files being read, outermost first
        self._read: dict[Path, tuple[Recipe, dict[str, Any]]] = {}

    def identify(self, reference: str, folder: Path) -> Parent:
        _require_plain(reference, folder)
        model, _, adapter = reference.partition("+")
        if _BUNDLED.fullmatch(Path(model).name) and _local(f"{model}.yaml", folder).exists():
            model += ".yaml"  # the folder of that name is stock mergekit's build of the recipe
        parent = self._merge(model, folder) if model.endswith(_RECIPE_ENDINGS) else _model(model, folder)
        return adapted(parent, _local(adapter, folder)) if adapter else parent

    def recipe(self, path: Path) -> tuple[Recipe, dict[str, Any]]:
        path = path.absolute()
        if path in self._open:
            raise PlanError(f"{path}: the recipe is its own parent; name other parents in it")
        if path not in self._read:
            self._open.append(path)
            self._read[path] = self._parse(path)
            self._open.remove(path)
        return self._read[path]

    def _parse(self, path: Path) -> tuple[Recipe, dict[str, Any]]:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"{path}: cannot read the recipe ({error}); give a mergekit YAML file") from error
        return from_yaml(
            text,
            lambda reference: self.identify(reference, path.parent),
            lambda reference: tokenizer_folder(_local(reference, path.parent)),
        )

    def _merge(self, reference: str, folder: Path) -> Parent:
        recipe, _ = self.recipe(_local(reference, folder))
        return Parent(recipe.digest, recipe)


def _model(reference: str, folder: Path) -> Parent:
    directory, hub_id = _find(reference, folder)
    digest = content_digest(read_checkpoint(directory))
    return Parent(digest, hub_id, directory.name) if hub_id else Parent(digest, str(directory))


def _find(reference: str, folder: Path) -> tuple[Path, str | None]:
    """A model's folder, and its hub id if it is from the hub.

    The folder of a hub model is named after the commit.
    """
    if (known := resolve(reference)) is not None:
        if not known.exists():
            raise RefusedInput(
                f"'{reference}' is not trained yet; run 'recipesearch zoo' first (takes a minute)"
            )
        return known, None
    name, _, revision = reference.partition("@")
    directory = _local(name, folder)
    if directory.exists() or not _HUB_ID.fullmatch(name):
        return directory, None
    return _snapshot(name, revision or None), name


def is_hub_id(name: str) -> bool:
    """Whether a reference without revision has the form of a hub id, ``ORGANISATION/NAME``."""
    return _HUB_ID.fullmatch(name) is not None


def _require_plain(reference: str, folder: Path) -> None:
    """Raises RefusedInput for a path that contains '@' or '+'.

    mergekit reads these signs as revision and adapter, in its YAML too.
    """
    model, _, adapter = reference.partition("+")
    paths = [resolve(model) or _local(model, folder), *([_local(adapter, folder)] if adapter else [])]
    for path in [_local(reference, folder), *paths]:
        if path.exists() and any(sign in str(path) for sign in "@+"):
            raise RefusedInput(
                f"{path}: mergekit reads '@' and '+' in a path as revision and adapter; "
                "rename or link the folder"
            )


def _local(reference: str, folder: Path) -> Path:
    return Path(os.path.abspath(folder / Path(reference).expanduser()))


def _snapshot(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        wanted = f"{name}@{revision}" if revision else name
        raise RefusedInput(
            f"'{wanted}' is neither a local folder nor available from the hub ({type(error).__name__}); "
            "check the name, or download the model first"
        ) from error

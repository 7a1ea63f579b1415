"""From a reference in a study or recipe file to a Parent, by the content of its files. Light: no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from ..errors import PlanError, RefusedInput
from ..files import cache_dir, write_text
from ..recipe import Parent, Recipe
from ..recipe.mergekit_yaml import from_yaml
from ..zoo import resolve
from .headers import COMPANIONS, CONFIG_NOISE, Checkpoint, read_checkpoint
from .tokenizers import tokenizer_folder

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # not ../folder
_RECIPE_ENDINGS = (".yaml", ".yml")
_BUNDLED = re.compile(r"parent-[0-9a-f]{12}")  # a recipe beside the one that names it (inspection/bundle.py)
SCRIPT = "rebuild.sh"  # and the stock commands for both
# README.md states the licence, which model cards of merges repeat.
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.jinja", "merges.txt", "README.md"]
_FORMAT = "3"  # of the digest; raise it with any change to _digest, so that kept digests are made anew
_CHUNK = 1 << 24
_OPEN: list[Path] = []  # the recipe files being read, outermost first
_READ: dict[Path, tuple[Recipe, dict[str, Any]]] = {}  # those read since the outermost was opened


def identify(reference: str, folder: Path) -> Parent:
    """The Parent that a reference names: ``directory``, ``hub/id[@revision]``, ``recipe.yaml``,
    ``zoo:name``, each optionally followed by ``+adapter``.

    Relative paths start at ``folder`` (that of the file that holds the reference). A hub id without a
    revision is pinned to the commit found. Raises RefusedInput for a missing, unsafe or damaged model and
    PlanError for an unreadable recipe.
    """
    _require_plain(reference, folder)
    model, _, adapter = reference.partition("+")
    if _BUNDLED.fullmatch(Path(model).name) and _local(f"{model}.yaml", folder).exists():
        model += ".yaml"  # the folder beside it, if any, is what stock mergekit has made of it
    parent = _recipe_parent(model, folder) if model.endswith(_RECIPE_ENDINGS) else _model(model, folder)
    if not adapter:
        return parent
    return adapted(parent, _local(adapter, folder))


def adapted(parent: Parent, adapter: Path) -> Parent:
    """The parent, which has none yet, with a PEFT adapter's folder. Raises RefusedInput if it is none."""
    assert parent.adapter is None
    digest = _hash(parent.digest, _adapter_digest(adapter))
    return Parent(digest, parent.source, parent.revision, str(adapter))


def locate(reference: str, folder: Path) -> Path | None:
    """The model folder that a reference names, as in ``identify`` but without reading its weights.

    A hub model is downloaded first. None for a recipe file and for a model with an adapter: they are no
    folders yet. Raises RefusedInput for a model that is nowhere.
    """
    _require_plain(reference, folder)
    if "+" in reference or reference.endswith(_RECIPE_ENDINGS):
        return None
    return _find(reference, folder)[0]


def recorded_config(reference: str, folder: Path) -> Path | None:
    """Where the recorded config of a hub model lies beside a study (``configs/ORG/NAME.json``); None for what
    is no hub id, or has its files here."""
    name = reference.partition("+")[0].partition("@")[0]
    if resolve(reference) is not None or _local(name, folder).exists() or not _HUB_ID.fullmatch(name):
        return None
    return folder / "configs" / f"{name}.json"


def read_recipe(path: Path) -> tuple[Recipe, dict[str, Any]]:
    """A recipe file and its provenance. Raises PlanError or RefusedInput, naming the cause.

    An ancestor is read once, however many ways lead to it: over generations they would be very many.
    """
    path = path.absolute()
    if path in _OPEN:
        raise PlanError(f"{path}: the recipe is its own parent")
    if path not in _READ:
        _READ[path] = _read_recipe(path)
    found = _READ[path]
    if not _OPEN:
        _READ.clear()
    return found


def _read_recipe(path: Path) -> tuple[Recipe, dict[str, Any]]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot read the recipe ({error}); give a mergekit YAML file") from error
    _OPEN.append(path)
    try:
        return from_yaml(
            text,
            lambda reference: identify(reference, path.parent),
            lambda reference: tokenizer_folder(_local(reference, path.parent)),
        )
    except BaseException:
        _READ.clear()
        raise
    finally:
        _OPEN.remove(path)


def model_directory(parent: Parent) -> Path:
    """The local folder of a parent's model files, adapter aside. Not for a recipe (see materialize.py)."""
    assert isinstance(parent.source, str)
    if Path(parent.source).is_absolute():
        return Path(parent.source)
    return _snapshot(parent.source, parent.revision)


def content_digest(checkpoint: Checkpoint) -> str:
    """Hex digest of what makes the model: config, companion files, and every tensor's name, type and bytes.

    Independent of the folder's place, its sharding and its metadata. Kept in the cache by the files' sizes
    and times, since reading a large model takes as long as its disk does.
    """
    files = sorted({header.file for header in checkpoint.tensors.values()})
    files += [checkpoint.directory / name for name in ("config.json", *COMPANIONS)]
    stamps = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]
    remembered = cache_dir() / "digests" / _hash(_FORMAT, json.dumps(stamps))
    if remembered.exists():
        return remembered.read_text()
    digest = _digest(checkpoint)
    write_text(remembered, digest)
    return digest


def _model(reference: str, folder: Path) -> Parent:
    directory, hub_id = _find(reference, folder)
    digest = content_digest(read_checkpoint(directory))
    return Parent(digest, hub_id, directory.name) if hub_id else Parent(digest, str(directory))


def _find(reference: str, folder: Path) -> tuple[Path, str | None]:
    """A model's folder and, if it is the hub's, its id there; the folder is then named by the commit."""
    if (known := resolve(reference)) is not None:
        if not known.exists():
            raise RefusedInput(f"'{reference}' is not trained yet; run 'recipesearch zoo' first (a minute)")
        return known, None
    name, _, revision = reference.partition("@")
    directory = _local(name, folder)
    if directory.exists() or not _HUB_ID.fullmatch(name):
        return directory, None
    return _snapshot(name, revision or None), name


def _recipe_parent(reference: str, folder: Path) -> Parent:
    recipe, _ = read_recipe(_local(reference, folder))
    return Parent(recipe.digest, recipe)


def _require_plain(reference: str, folder: Path) -> None:
    """mergekit reads '@' and '+' in a path as revision and adapter, in its YAML too."""
    path = resolve(reference.partition("+")[0]) or _local(reference, folder)
    if path.exists() and any(sign in str(path) for sign in "@+"):
        raise RefusedInput(
            f"{path}: mergekit reads '@' and '+' in a path as revision and adapter; rename or link the folder"
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
            f"'{wanted}' is neither a folder here nor a model that the hub would give "
            f"({type(error).__name__}); check the name, or download it first"
        ) from error


def _adapter_digest(directory: Path) -> str:
    config, weights = directory / "adapter_config.json", directory / "adapter_model.safetensors"
    if not (config.exists() and weights.exists()):
        raise RefusedInput(
            f"{directory}: not an adapter folder (adapter_config.json and adapter_model.safetensors)"
        )
    return _hash(config.read_bytes(), weights.read_bytes())


def _digest(checkpoint: Checkpoint) -> str:
    state = hashlib.sha256()
    config = {key: value for key, value in checkpoint.config.items() if key not in CONFIG_NOISE}
    state.update(json.dumps(config, sort_keys=True).encode())
    for name in COMPANIONS:
        path = checkpoint.directory / name
        state.update(name.encode() + (path.read_bytes() if path.exists() else b""))
    for name, header in sorted(checkpoint.tensors.items()):
        state.update(f"{name}|{header.dtype}|{header.shape}".encode())
        with header.file.open("rb") as stream:
            stream.seek(header.start)
            left = header.stop - header.start
            while left:
                block = stream.read(min(left, _CHUNK))
                if not block:
                    raise RefusedInput(f"{header.file}: ends inside tensor '{name}'; download it again")
                state.update(block)
                left -= len(block)
    return state.hexdigest()


def _hash(*parts: str | bytes) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode() if isinstance(part, str) else part)
        state.update(b"\0")
    return state.hexdigest()

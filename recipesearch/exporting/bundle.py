"""The files of an export beside its recipe: its ancestors, and the commands that rebuild the whole family.

A parent that is a merge is written as ``parent-DIGEST.yaml``. Recipes refer to it as the folder
``parent-DIGEST``: recipesearch reads the YAML file instead, stock mergekit the model that it has built there.
A mutant's adapter is copied as ``adapter-DIGEST``, and the mutant is named ``parent-DIGEST+adapter-DIGEST``
in mergekit's notation. The adapter's training pairs are not copied, because exports are meant to be published
and pairs may be private.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import yaml

from ..errors import StudyError
from ..files import write_text
from ..mutation.training_order import PAIRS
from ..parents.identify import SCRIPT
from ..parents.tokenizer_files import copy_tokenizer
from ..recipe import Parent, Recipe, TokenizerFolder
from ..recipe.mergekit_yaml import PROVENANCE, to_yaml
from ..score import Conditions
from ..zoo import resolve

RECIPE_FILE, OUTPUT = "recipe.yaml", "model"
_BEGUN = f"{PROVENANCE}: this export was cut short, run it again\n"
_TOKENIZER, _ADAPTED = "tokenizer", "adapted"
_OURS = re.compile(
    r"rebuild\.sh|parent-[0-9a-f]{12}\.\w.*|adapter-[0-9a-f]{12}|recipe\.(stock\.yaml|config)|tokenizer"
)

Refer = Callable[[Parent], str]


def begin(folder: Path) -> None:
    """Removes the files of an earlier export, except models that were built there.

    Until the recipe is written as the last file, ``recipe.yaml`` contains a marker: an interrupted export can
    be repeated in the folder, and cannot be read as a recipe. Raises StudyError, and removes nothing, if the
    folder has files with names of an export but no earlier export: they belong to something else, and would
    be mistaken for parts of this export.
    """
    found = [f for f in folder.iterdir() if _OURS.fullmatch(f.name)] if folder.is_dir() else []
    if found and not _is_export(folder / RECIPE_FILE):
        raise StudyError(
            f"{found[0]} is not from an earlier export, but has a name that exports use: move it away, or "
            "choose another folder"
        )
    write_text(folder / RECIPE_FILE, _BEGUN)
    for file in found:
        shutil.rmtree(file) if file.is_dir() else file.unlink()


def ancestors(recipe: Recipe) -> list[Recipe]:
    """A recipe's ancestors that are recipes, each once and after its own parents.

    Parents of weight zero are included, unlike in a lineage, because the YAML names them.
    """
    found: dict[str, Recipe] = {}
    _collect(recipe, found)
    return list(found.values())


def all_parents(recipe: Recipe) -> list[Parent]:
    """All parents of a recipe and of its ancestors, each once."""
    merged = [*ancestors(recipe), recipe]
    return list(dict.fromkeys(parent for one in merged for parent in one.parents()))


def beside(parent: Parent, plain: str) -> str:
    """The reference to a parent from a recipe in the export's folder.

    ``plain`` is the reference to the model of a parent that is not a recipe.
    """
    model = _stem(parent.source) if isinstance(parent.source, Recipe) else plain
    return model + (f"+{_adapter(parent)}" if parent.adapter else "")


def write_ancestors(recipe: Recipe, folder: Path, refer: Refer, *, portable: bool) -> None:
    """Writes a recipe's ancestors and all adapters into its folder; ``refer`` gives a parent's reference."""
    for one in ancestors(recipe):
        own = with_tokenizer_beside(one, folder, f"{_stem(one)}.{_TOKENIZER}", portable=portable)
        write_text(folder / f"{_stem(one)}.yaml", to_yaml(own, refer, {}))
    for parent in all_parents(recipe):
        if parent.adapter:
            shutil.copytree(parent.adapter, folder / _adapter(parent), ignore=shutil.ignore_patterns(PAIRS))


def write_script(recipe: Recipe, folder: Path, refer: Refer, conditions: Conditions) -> bool:
    """Writes the stock commands that rebuild a recipe, ancestors first, unless one plain command is enough.

    With an adapter one command is not enough: mergekit merges the adapter into a model in a folder that has
    to be empty. Returns whether the script was written.
    """
    commands = []
    for one in ancestors(recipe):
        # Parents are always built on the CPU, even if candidates are merged on a GPU.
        file = _for_stock(one, folder, _stem(one), refer)
        commands.append(_merge(file, one, _stem(one), conditions, cuda=False))
    file = _for_stock(recipe, folder, Path(RECIPE_FILE).stem, refer)
    commands.append(_merge(file, recipe, OUTPUT, conditions, cuda=conditions.device == "cuda"))
    adapted = any(parent.adapter for parent in all_parents(recipe))
    if needed := len(commands) > 1 or file != RECIPE_FILE or adapted:
        head = "#!/bin/sh\n# Rebuilds the model with stock mergekit. Run it in this folder.\nset -e\n"
        if adapted:
            head += f"rm -rf {_ADAPTED}\n"  # mergekit would reuse a half-merged adapter
        write_text(folder / SCRIPT, head + "".join(f"{command}\n" for command in commands))
    return needed


def with_tokenizer_beside(recipe: Recipe, folder: Path, name: str = _TOKENIZER, *, portable: bool) -> Recipe:
    """The recipe, with its tokenizer folder copied beside it; with ``portable``, the recipe uses the copy."""
    if recipe.tokenizer is None or not isinstance(recipe.tokenizer.source, TokenizerFolder):
        return recipe
    source = copy_tokenizer(recipe.tokenizer.source, folder / name)
    source = replace(source, path=name) if portable else source
    return replace(recipe, tokenizer=replace(recipe.tokenizer, source=source))


def stock_reads(references: Iterable[str]) -> bool:
    """Whether stock mergekit can resolve the references: folders and hub ids, with or without adapters."""
    models = [reference.partition("+")[0] for reference in references]
    return not any(resolve(model) or model.endswith((".yaml", ".yml")) for model in models)


def _is_export(recipe: Path) -> bool:
    """Whether an export has written the file or its marker: other mergekit recipes have no provenance."""
    try:
        content = yaml.safe_load(recipe.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):  # not a recipe of an export
        return False
    return isinstance(content, dict) and PROVENANCE in content


def _for_stock(recipe: Recipe, folder: Path, stem: str, refer: Refer) -> str:
    """The name of the file for stock mergekit: the recipe's own, or a new one with a stub as its base."""
    if recipe.path is None:
        return f"{stem}.yaml"
    from .stub import with_stub

    name, config = f"{stem}.stock.yaml", f"{stem}.config"
    stubbed = with_stub(recipe, folder / config)
    if stubbed is None:
        return f"{stem}.yaml"
    write_text(folder / name, to_yaml(stubbed, lambda p: config if p == stubbed.base else refer(p), {}))
    return name


def _merge(file: str, recipe: Recipe, output: str, conditions: Conditions, *, cuda: bool) -> str:
    words = ["mergekit-yaml", file, output, "--random-seed", recipe.seed, "-j", conditions.threads]
    options = ["--no-write-model-card", *(["--cuda"] if cuda else [])]
    adapted = ["--lora-merge-cache", _ADAPTED] if any(p.adapter for p in recipe.parents()) else []
    return shlex.join([*map(str, words), *options, *adapted])


def _collect(recipe: Recipe, found: dict[str, Recipe]) -> None:
    for parent in recipe.parents():
        if isinstance(parent.source, Recipe) and parent.source.digest not in found:
            _collect(parent.source, found)
            found[parent.source.digest] = parent.source


def _stem(recipe: Recipe) -> str:
    return f"parent-{recipe.digest[:12]}"


def _adapter(parent: Parent) -> str:
    return f"adapter-{parent.digest[:12]}"

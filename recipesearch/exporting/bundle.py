"""What an export needs beside its recipe: its ancestors, and the commands that rebuild all.

A parent that is a merge itself is written as ``parent-DIGEST.yaml``, and the recipes that use it name the
folder ``parent-DIGEST`` beside it: recipesearch reads the recipe, stock mergekit what it has built from it.
A mutant's adapter is copied as ``adapter-DIGEST``, and named ``parent-DIGEST+adapter-DIGEST``, mergekit's own
notation. The pairs that it learned from stay behind: an export is to be published, and they may be private.
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
    """Removes what an earlier export has left beside its recipe; models that were built there stay.

    Until the recipe is written, last of all, a mark is in its place: an export that is cut short can be
    repeated there, and nothing reads it as a recipe. Raises StudyError, and removes nothing, if something has
    an export's name and no earlier export is there: it is somebody else's, and beside our recipe it would be
    taken for ours.
    """
    found = [f for f in folder.iterdir() if _OURS.fullmatch(f.name)] if folder.is_dir() else []
    if found and not _is_export(folder / RECIPE_FILE):
        raise StudyError(
            f"{found[0]} was left by no earlier export, and exports use that name: move it away, or name "
            "another folder"
        )
    write_text(folder / RECIPE_FILE, _BEGUN)
    for file in found:
        shutil.rmtree(file) if file.is_dir() else file.unlink()


def ancestors(recipe: Recipe) -> list[Recipe]:
    """A recipe's ancestors that are recipes, each once and after its own parents.

    Parents of weight zero count too, unlike in a lineage: the YAML names them.
    """
    found: dict[str, Recipe] = {}
    _collect(recipe, found)
    return list(found.values())


def all_parents(recipe: Recipe) -> list[Parent]:
    """All parents of a recipe and of its ancestors, each once."""
    merged = [*ancestors(recipe), recipe]
    return list(dict.fromkeys(parent for one in merged for parent in one.parents()))


def beside(parent: Parent, plain: str) -> str:
    """The reference to a parent from a recipe in the same folder; ``plain`` is that to a model's folder."""
    model = _stem(parent.source) if isinstance(parent.source, Recipe) else plain
    return model + (f"+{_adapter(parent)}" if parent.adapter else "")


def write_ancestors(recipe: Recipe, folder: Path, refer: Refer, *, portable: bool) -> None:
    """Writes a recipe's ancestors into its folder, and its family's adapters; ``refer`` gives the reference
    to any parent."""
    for one in ancestors(recipe):
        own = with_tokenizer_beside(one, folder, f"{_stem(one)}.{_TOKENIZER}", portable=portable)
        write_text(folder / f"{_stem(one)}.yaml", to_yaml(own, refer, {}))
    for parent in all_parents(recipe):
        if parent.adapter:
            shutil.copytree(parent.adapter, folder / _adapter(parent), ignore=shutil.ignore_patterns(PAIRS))


def write_script(recipe: Recipe, folder: Path, refer: Refer, conditions: Conditions) -> bool:
    """Writes the stock commands that rebuild a recipe, its ancestors first, if one on the recipe will not do.

    With an adapter it will not: mergekit wants a folder to merge it in, and that has to be empty. Returns
    whether it did.
    """
    commands = []
    for one in ancestors(recipe):
        # Parents are built on the CPU, wherever candidates live.
        file = _for_stock(one, folder, _stem(one), refer)
        commands.append(_merge(file, one, _stem(one), conditions, cuda=False))
    file = _for_stock(recipe, folder, Path(RECIPE_FILE).stem, refer)
    commands.append(_merge(file, recipe, OUTPUT, conditions, cuda=conditions.device == "cuda"))
    adapted = any(parent.adapter for parent in all_parents(recipe))
    if needed := len(commands) > 1 or file != RECIPE_FILE or adapted:
        head = "#!/bin/sh\n# Rebuilds the model with stock mergekit. Run it in this folder.\nset -e\n"
        if adapted:
            head += f"rm -rf {_ADAPTED}\n"  # mergekit takes a half-merged adapter for a whole one
        write_text(folder / SCRIPT, head + "".join(f"{command}\n" for command in commands))
    return needed


def with_tokenizer_beside(recipe: Recipe, folder: Path, name: str = _TOKENIZER, *, portable: bool) -> Recipe:
    """The recipe, the tokenizer that it names copied beside it; ``portable`` names it from there."""
    if recipe.tokenizer is None or not isinstance(recipe.tokenizer.source, TokenizerFolder):
        return recipe
    source = copy_tokenizer(recipe.tokenizer.source, folder / name)
    source = replace(source, path=name) if portable else source
    return replace(recipe, tokenizer=replace(recipe.tokenizer, source=source))


def stock_reads(references: Iterable[str]) -> bool:
    """Whether stock mergekit resolves the references by itself: folders and hub ids, and adapters on them."""
    models = [reference.partition("+")[0] for reference in references]
    return not any(resolve(model) or model.endswith((".yaml", ".yml")) for model in models)


def _is_export(recipe: Path) -> bool:
    """Whether a recipe is one that an export has written or begun: mergekit's own have no provenance."""
    try:
        content = yaml.safe_load(recipe.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):  # no recipe of ours, whatever it is
        return False
    return isinstance(content, dict) and PROVENANCE in content


def _for_stock(recipe: Recipe, folder: Path, stem: str, refer: Refer) -> str:
    """The name of the file that stock mergekit is given: the recipe's, or one with a stub for its base."""
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

"""What an export needs beside its recipe: the merges among its parents, and the commands that rebuild all.

A parent that is a merge itself is written as ``parent-DIGEST.yaml``, and the recipes that use it name the
folder ``parent-DIGEST`` beside it: recipesearch reads the recipe, stock mergekit what it has built from it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ..files import write_text
from ..merging.parents import SCRIPT
from ..merging.tokenizers import copy_tokenizer
from ..recipe import Parent, Recipe, TokenizerFolder
from ..recipe_yaml import to_yaml
from ..study.ledger import Conditions

RECIPE_FILE, OUTPUT = "recipe.yaml", "model"
_TOKENIZER = "tokenizer"


def ancestors(recipe: Recipe) -> list[Parent]:
    """The parents that are recipes, and theirs: each once, and after its own parents."""
    found: dict[Parent, None] = {}
    for parent in recipe.parents():
        if isinstance(parent.source, Recipe):
            found |= dict.fromkeys([*ancestors(parent.source), parent])
    return list(found)


def beside(parent: Parent) -> str:
    """The reference to a parent that is a recipe, from a recipe in the same folder."""
    return _stem(parent) + (f"+{parent.adapter}" if parent.adapter else "")


def write_ancestors(recipe: Recipe, folder: Path) -> None:
    """Writes a recipe's ancestors into its folder."""
    for parent in ancestors(recipe):
        assert isinstance(parent.source, Recipe)
        own = with_tokenizer_beside(parent.source, folder, f"{_stem(parent)}.{_TOKENIZER}", portable=False)
        references = {p: beside(p) if isinstance(p.source, Recipe) else p.reference for p in own.parents()}
        write_text(folder / f"{_stem(parent)}.yaml", to_yaml(own, lambda p: references[p], {}))  # noqa: B023
        _write_config(parent.source, folder / f"{_stem(parent)}.config.json")


def write_script(recipe: Recipe, folder: Path, conditions: Conditions) -> bool:
    """Writes the stock commands that rebuild a recipe, its ancestors first, if it takes more than one.

    Returns whether it does.
    """
    _write_config(recipe, folder / f"{Path(RECIPE_FILE).stem}.config.json")
    commands = list(_commands(recipe, folder, conditions))
    if len(commands) > 1:
        head = "#!/bin/sh\n# Rebuilds the model with stock mergekit. Run it in this folder.\nset -e\n"
        write_text(folder / SCRIPT, head + "".join(f"{command}\n" for command in commands))
    return len(commands) > 1


def with_tokenizer_beside(recipe: Recipe, folder: Path, name: str = _TOKENIZER, *, portable: bool) -> Recipe:
    """The recipe, the tokenizer that it names copied beside it; ``portable`` names it from there."""
    if recipe.tokenizer is None or not isinstance(recipe.tokenizer.source, TokenizerFolder):
        return recipe
    source = copy_tokenizer(recipe.tokenizer.source, folder / name)
    source = replace(source, path=name) if portable else source
    return replace(recipe, tokenizer=replace(recipe.tokenizer, source=source))


def stock_reads(references: Iterable[str]) -> bool:
    """Whether stock mergekit resolves the references by itself: folders and hub ids, without adapters."""
    return not any(r.startswith("zoo") or r.endswith((".yaml", ".yml")) or "+" in r for r in references)


def _commands(recipe: Recipe, folder: Path, conditions: Conditions) -> Iterator[str]:
    for parent in ancestors(recipe):
        assert isinstance(parent.source, Recipe)
        # Parents are built on the CPU, wherever candidates live.
        yield _merge(_stem(parent), _stem(parent), parent.source.seed, conditions, cuda=False)
        yield from _config_command(folder, _stem(parent), _stem(parent))
    stem = Path(RECIPE_FILE).stem
    yield _merge(stem, OUTPUT, recipe.seed, conditions, cuda=conditions.device == "cuda")
    yield from _config_command(folder, stem, OUTPUT)


def _merge(stem: str, output: str, seed: int, conditions: Conditions, *, cuda: bool) -> str:
    words = ["mergekit-yaml", f"{stem}.yaml", output, "--random-seed", seed, "-j", conditions.threads]
    return shlex.join([*map(str, words), *(["--cuda"] if cuda else [])])


def _config_command(folder: Path, stem: str, output: str) -> Iterator[str]:
    if (folder / f"{stem}.config.json").exists():
        yield f"cp {stem}.config.json {output}/config.json  # mergekit leaves lists of layers as they were"


def _write_config(recipe: Recipe, target: Path) -> None:
    """The config of a path, where it has lists with an entry for each layer: mergekit does not adapt them."""
    if recipe.path is None:
        return
    from ..merging.layered import configs, has_lists, output_config
    from ..merging.materialize import directories

    config = output_config(recipe, configs(directories(recipe.parents())))
    if has_lists(config):
        write_text(target, config.to_json_string())


def _stem(parent: Parent) -> str:
    return f"parent-{parent.digest[:12]}"

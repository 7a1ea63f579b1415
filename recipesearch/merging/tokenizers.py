"""Tokenizers as files: what they know, and the one of a study, built once into the cache. Light: no torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from ..errors import PlanError, StudyError
from ..files import cache_dir, whole_folder
from ..recipe import Tokenizer, TokenizerFolder
from .headers import COMPANIONS

_FILES = tuple(name for name in COMPANIONS if name != "generation_config.json")
_FACTS = "facts.json"
_MADE_BY = ("mergekit", "transformers", "tokenizers")


@dataclass(frozen=True)
class Settled:
    """A tokenizer setting that means the same in every run, and what it does to the parents.

    ``size`` is the merged vocabulary's, padding included; ``tokens`` and ``lacks`` are, for each parent in
    order, the number of tokens that it has, and of those of the merged vocabulary that it has not.
    """

    tokenizer: Tokenizer
    size: int
    tokens: tuple[int, ...]
    lacks: tuple[int, ...]


def settle(tokenizer: Tokenizer, folders: Sequence[Path]) -> Settled:
    """Fixes what mergekit would choose anew at every run: a union's numbering, and the template of ``auto``.

    A base with ``tokens`` becomes a folder too: mergekit would add them to the parent's own tokenizer, and
    then fail for want of their rows in it. ``folders`` are the parents' in the order of the recipes, but the
    base first. From tokenizers and configs alone; loads mergekit the first time. Raises RefusedInput for
    tokenizers that cannot be aligned.
    """
    if isinstance(tokenizer.source, TokenizerFolder):
        raise PlanError("a tokenizer's folder is settled already")  # recipes that name one need no settling
    target = _target(tokenizer, folders)
    if not target.exists():
        try:
            _build(tokenizer, folders, target)
        except OSError as error:
            if not target.exists():  # else another process was faster, and its folder is the same
                raise StudyError(f"cannot write {target}: {error.strerror or error}") from error
    facts = json.loads((target / _FACTS).read_text("utf-8"))
    step = tokenizer.pad_to_multiple_of or 1
    auto = tokenizer.chat_template == "auto"
    plain = tokenizer.source == "base" and not tokenizer.tokens
    settled = replace(
        tokenizer,
        source="base" if plain else tokenizer_folder(target),
        chat_template=facts["chat_template"] if auto else tokenizer.chat_template,
    )
    size = -(-facts["size"] // step) * step
    return Settled(settled, size, tuple(facts["tokens"]), tuple(facts["lacks"]))


def tokenizer_folder(folder: Path) -> TokenizerFolder:
    """A folder's tokenizer. Raises PlanError if it holds none."""
    files = [folder / name for name in _FILES if (folder / name).exists()]
    if not files:
        raise PlanError(f"{folder}: no tokenizer there; a recipe's is union, base or a local folder")
    return TokenizerFolder(_digest(files), str(folder.absolute()))


def copy_tokenizer(tokenizer: TokenizerFolder, target: Path) -> TokenizerFolder:
    """The same tokenizer in another folder."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if (Path(tokenizer.path) / name).exists():
            shutil.copy(Path(tokenizer.path) / name, target / name)
    return replace(tokenizer, path=str(target.absolute()))


def token_ids(folder: Path) -> Mapping[str, int] | None:
    """A folder's tokens with their ids, from its ``tokenizer.json``; None without one."""
    try:
        content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        tokens = content["model"]["vocab"]
        if isinstance(tokens, list):  # Unigram: (token, score) by id
            tokens = {entry[0]: place for place, entry in enumerate(tokens)}
        return {**tokens, **{entry["content"]: entry["id"] for entry in content["added_tokens"]}}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _target(tokenizer: Tokenizer, folders: Sequence[Path]) -> Path:
    """Named by all that decides the tokenizer: the parents' files, and the libraries that read them."""
    parents = [_digest([f / name for name in ("config.json", *_FILES)]) for f in folders]
    added = [text for text, _ in tokenizer.tokens]
    text = repr((tokenizer.source, added, parents, [version(name) for name in _MADE_BY]))
    return cache_dir() / "tokenizers" / hashlib.sha256(text.encode()).hexdigest()


def _build(tokenizer: Tokenizer, folders: Sequence[Path], target: Path) -> None:
    from .vocabulary import write_tokenizer

    added = [text for text, _ in tokenizer.tokens]
    with whole_folder(target) as partial:
        facts = write_tokenizer(str(tokenizer.source), added, folders, partial)
        (partial / _FACTS).write_text(json.dumps(facts), "utf-8")


def _digest(files: Sequence[Path]) -> str:
    state = hashlib.sha256()
    for file in files:
        state.update(file.name.encode() + b"\0" + (file.read_bytes() if file.exists() else b"") + b"\0")
    return state.hexdigest()

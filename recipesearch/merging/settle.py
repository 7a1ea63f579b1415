"""Builds a study's own tokenizer, once, in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from ..errors import PlanError, StudyError
from ..files import cache_dir, whole_folder
from ..parents.tokenizer_files import TOKENIZER_FILES, Settled, files_digest, tokenizer_folder
from ..recipe import Tokenizer, TokenizerFolder

_FACTS = "facts.json"
_MADE_BY = ("mergekit", "transformers", "tokenizers")


def settle(tokenizer: Tokenizer, folders: Sequence[Path]) -> Settled:
    """Fixes what mergekit chooses differently in every run: a union's numbering, and the ``auto`` template.

    A base with added ``tokens`` becomes a folder too. Otherwise mergekit would add the tokens to the
    parent's own tokenizer and then fail, because the parent has no rows for them. ``folders`` are the
    parents' folders in the order of the recipes, but with the base first. Only tokenizers and configs are
    read. Loads mergekit the first time. Raises RefusedInput for tokenizers that cannot be aligned, and
    StudyError if the cache cannot be written.
    """
    if isinstance(tokenizer.source, TokenizerFolder):
        raise PlanError("the tokenizer is already a folder: use it as it is")
    target = _target(tokenizer, folders)
    if not target.exists():
        try:
            _build(tokenizer, folders, target)
        except OSError as error:
            if not target.exists():  # else another process was faster, and its folder is identical
                raise StudyError(
                    f"cannot write {target}: {error.strerror or error}; free some space"
                ) from error
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


def _target(tokenizer: Tokenizer, folders: Sequence[Path]) -> Path:
    """The tokenizer's cache folder.

    Its name covers everything that decides the tokenizer: the parents' files, and the versions of the
    libraries that read them.
    """
    parents = [files_digest([f / name for name in ("config.json", *TOKENIZER_FILES)]) for f in folders]
    added = [text for text, _ in tokenizer.tokens]
    text = repr((tokenizer.source, added, parents, [version(name) for name in _MADE_BY]))
    return cache_dir() / "tokenizers" / hashlib.sha256(text.encode()).hexdigest()


def _build(tokenizer: Tokenizer, folders: Sequence[Path], target: Path) -> None:
    from .vocabulary import write_tokenizer

    added = [text for text, _ in tokenizer.tokens]
    with whole_folder(target) as partial:
        facts = write_tokenizer(str(tokenizer.source), added, folders, partial)
        (partial / _FACTS).write_text(json.dumps(facts), "utf-8")

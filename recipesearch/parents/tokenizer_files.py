"""Tokenizers as files: their tokens, copies and digests. Light: no torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import PlanError
from ..recipe import Tokenizer, TokenizerFolder
from .headers import COMPANIONS

TOKENIZER_FILES = tuple(name for name in COMPANIONS if name != "generation_config.json")


@dataclass(frozen=True)
class Settled:
    """A tokenizer setting that means the same in every run, and its effect on the parents.

    ``size`` is the size of the merged vocabulary, padding included. For each parent in order,
    ``tokens`` is its number of tokens, and ``lacks`` is the number of tokens of the merged vocabulary
    that the parent lacks.
    """

    tokenizer: Tokenizer
    size: int
    tokens: tuple[int, ...]
    lacks: tuple[int, ...]


def tokenizer_folder(folder: Path) -> TokenizerFolder:
    """The tokenizer in a folder. Raises PlanError if the folder contains none."""
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).exists()]
    if not files:
        raise PlanError(f"{folder}: no tokenizer there; name union, base or a folder with a tokenizer")
    return TokenizerFolder(files_digest(files), str(folder.absolute()))


def copy_tokenizer(tokenizer: TokenizerFolder, target: Path) -> TokenizerFolder:
    """The same tokenizer in another folder."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (Path(tokenizer.path) / name).exists():
            shutil.copy(Path(tokenizer.path) / name, target / name)
    return replace(tokenizer, path=str(target.absolute()))


def token_ids(folder: Path) -> Mapping[str, int] | None:
    """The tokens and ids in a folder's ``tokenizer.json``; None if the file is missing or unreadable."""
    try:
        content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        tokens = content["model"]["vocab"]
        if isinstance(tokens, list):  # Unigram: (token, score) by id
            tokens = {entry[0]: place for place, entry in enumerate(tokens)}
        return {**tokens, **{entry["content"]: entry["id"] for entry in content["added_tokens"]}}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def files_digest(files: Sequence[Path]) -> str:
    """Hex digest of the names and contents of files. A missing file counts as empty."""
    state = hashlib.sha256()
    for file in files:
        state.update(file.name.encode() + b"\0" + (file.read_bytes() if file.exists() else b"") + b"\0")
    return state.hexdigest()

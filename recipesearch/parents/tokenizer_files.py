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
    """A tokenizer setting that means the same in every run, and what it does to the parents.

    ``size`` is the merged vocabulary's, padding included; ``tokens`` and ``lacks`` are, for each parent in
    order, the number of tokens that it has, and of those of the merged vocabulary that it has not.
    """

    tokenizer: Tokenizer
    size: int
    tokens: tuple[int, ...]
    lacks: tuple[int, ...]


def tokenizer_folder(folder: Path) -> TokenizerFolder:
    """A folder's tokenizer. Raises PlanError if it holds none."""
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).exists()]
    if not files:
        raise PlanError(f"{folder}: no tokenizer there; a recipe's is union, base or a local folder")
    return TokenizerFolder(files_digest(files), str(folder.absolute()))


def copy_tokenizer(tokenizer: TokenizerFolder, target: Path) -> TokenizerFolder:
    """The same tokenizer in another folder."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
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


def files_digest(files: Sequence[Path]) -> str:
    """Hex digest of some files' names and contents; a missing file counts as empty."""
    state = hashlib.sha256()
    for file in files:
        state.update(file.name.encode() + b"\0" + (file.read_bytes() if file.exists() else b"") + b"\0")
    return state.hexdigest()

"""Preference pairs: a better and a worse answer to one prompt, from tasks or from files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import PlanError
from .tasks import LoadedTask, chooses, generates, load_tasks

PAIRS_FILE = ".jsonl"  # the ending of a file of pairs
_DATA = {".json", ".jsonl", ".csv", ".parquet", ".txt"}

Text = str | Sequence[Mapping[str, str]]  # plain text, or messages


@dataclass(frozen=True)
class Pair:
    """A prompt, the answer to prefer and the answer to avoid: texts, or messages for the chat template."""

    prompt: Text
    chosen: Text
    rejected: Text


@dataclass(frozen=True)
class Preferences:
    """Pairs to train on, and prompts with right answers of the model's own, which training should keep."""

    pairs: tuple[Pair, ...]
    kept: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """Hex digest of the pairs, in order."""
        text = json.dumps([[p.prompt, p.chosen, p.rejected] for p in self.pairs], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Wanted:
    """How to mine: the number of pairs, the answers per item and their temperature (see plan.MutationPlan).

    ``contrast``: only pairs in which one answer is better; otherwise also items that the model gets right.
    """

    pairs: int
    samples: int
    temperature: float
    reference: bool
    contrast: bool
    seed: int


def require_minable(specs: Sequence[str]) -> None:
    """Raises PlanError for a preference task or file that can give no pairs. Runs no model."""
    for spec in specs:
        if spec.endswith(PAIRS_FILE):
            read_pairs(Path(spec))
        else:
            load(spec)


def items_digest(spec: str) -> str:
    """Hex digest of a located preference task or file, with its data files. Light: loads no task.

    For a registered task it is the digest of the task's name, because its data are in the hub's cache.
    """
    path = Path(spec)
    if not path.is_file():
        return hashlib.sha256(spec.encode()).hexdigest()
    state = hashlib.sha256(path.read_bytes())
    if not spec.endswith(PAIRS_FILE):
        for text in _strings(yaml.load(path.read_bytes(), _AnyTag)):
            data = Path(text)
            if data.suffix in _DATA and data.is_file():
                state.update(data.read_bytes())
    return state.hexdigest()


class _AnyTag(yaml.SafeLoader):
    """Reads lm-eval's task files and ignores their ``!function`` tags."""


_AnyTag.add_multi_constructor("!", lambda loader, suffix, node: None)


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs in a JSON-lines file with the keys ``prompt``, ``chosen`` and ``rejected``.

    Raises PlanError, naming the line.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot read the preference pairs ({error})") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            pairs.append(_pair(*(_text(row[key]) for key in ("prompt", "chosen", "rejected"))))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(
                f"{path}, line {number}: a pair is a JSON object of prompt, chosen and rejected, all "
                f"texts or all messages ({type(error).__name__}: {error})"
            ) from error
    return pairs


def _pair(*parts: Text) -> Pair:
    """A pair whose parts are all texts or all messages. Raises ValueError for a mixture."""
    if len({isinstance(part, str) for part in parts}) > 1:
        raise ValueError("got texts and messages in one pair")
    return Pair(*parts)


def _text(value: Any) -> Text:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all({"role", "content"} <= m.keys() for m in value):
        return tuple({"role": str(m["role"]), "content": str(m["content"])} for m in value)
    raise ValueError(f"got {value!r}")


def load(spec: str) -> LoadedTask:
    """A preference task, loaded. Raises PlanError for a task that can give no pairs."""
    (loaded,) = load_tasks([spec])
    if not isinstance(loaded, LoadedTask) or not (generates(loaded.task) or chooses(loaded.task)):
        raise PlanError(f"preference task '{spec}' neither generates nor chooses: name a task that does")
    return loaded

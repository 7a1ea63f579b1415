"""Every constant that decides the zoo's bits, and the hash that names its cache folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata

from . import language


@dataclass(frozen=True)
class Stage:
    """How one model is trained: from random weights, or from an earlier model."""

    start: str | None
    mixture: Mapping[str, float]
    steps: int
    peak_rate: float
    data_seed: int
    """Added to the zoo's seed."""
    stops_early: bool = False
    """Stop once addition in A is learned, which happens suddenly, at a step that depends on the seed."""


@dataclass(frozen=True)
class Task:
    """One lm-eval task family: its skills in equal shares, and the number of items in each file."""

    skills: tuple[str, ...]
    items: Mapping[str, int]


ARCHITECTURE: Mapping[str, int | float | bool] = {
    "vocab_size": len(language.ALPHABET),
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,  # of 32 dimensions: the smallest head that vLLM accepts
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.04,
    "tie_word_embeddings": False,  # so a recipe can weight head and embeddings separately
}

OPTIMISER: Mapping[str, float] = {
    "batch": 64,
    "beta1": 0.9,
    "beta2": 0.98,
    "weight_decay": 0.01,
    "clip": 1.0,
    "warm_up": 0.08,  # share of the planned steps
    "floor": 0.05,  # share of the peak rate at the end of the cosine
}

EARLY_STOP: Mapping[str, float] = {"from": 300, "every": 25, "items": 200, "accuracy": 0.4, "settle": 75}

_BASE = {"addA": 0.20, "maxA": 0.16, "minA": 0.14, "cpA": 0.08, "suA": 0.10, "trA": 0.06}
_BASE |= {"trB": 0.07, "cpB": 0.06, "maxB": 0.05, "minB": 0.04, "suB": 0.04}
_LANG = {"maxB": 0.25, "minB": 0.25, "cpB": 0.10, "suB": 0.15, "trB": 0.25}

STAGES: Mapping[str, Stage] = {
    "base": Stage(None, _BASE, steps=1000, peak_rate=4e-3, data_seed=1, stops_early=True),
    "math": Stage("base", {"addA": 1.0}, steps=250, peak_rate=1.5e-3, data_seed=2),
    "lang": Stage("base", _LANG, steps=250, peak_rate=2e-3, data_seed=3),
}

FILES: Mapping[str, language.Split] = {"search": "val", "held_out": "test", "preference": "train"}
"""The split that the items of each task file come from."""

_ADDITION = {"search": 300, "held_out": 550, "preference": 1000}
_READING = {"search": 300, "held_out": 400, "preference": 1000}
TASKS: Mapping[str, Task] = {
    "addition_a": Task(("addA",), _ADDITION),
    "addition_b": Task(("addB",), _ADDITION),
    "reading_b": Task(("maxB", "minB", "suB", "trB"), _READING),
}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # only the light dependencies are installed
        return "absent"


@dataclass(frozen=True)
class Definition:
    """Everything that decides the zoo's bits. Its hash names the cache folder."""

    format: int = 1
    """Increase this number when a change of code, not of a constant, changes the bits."""
    alphabet: str = language.ALPHABET
    operators: Mapping[str, str] = field(default_factory=lambda: dict(language.OPERATORS))
    split_seed: int = language.SPLIT_SEED
    item_seed: int = 11
    architecture: Mapping[str, float] = field(default_factory=lambda: dict(ARCHITECTURE))
    optimiser: Mapping[str, float] = field(default_factory=lambda: dict(OPTIMISER))
    early_stop: Mapping[str, float] = field(default_factory=lambda: dict(EARLY_STOP))
    stages: Mapping[str, Stage] = field(default_factory=lambda: dict(STAGES))
    tasks: Mapping[str, Task] = field(default_factory=lambda: dict(TASKS))
    files: Mapping[str, str] = field(default_factory=lambda: dict(FILES))
    torch: str = field(default_factory=lambda: _version("torch"))
    transformers: str = field(default_factory=lambda: _version("transformers"))

    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of everything above."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

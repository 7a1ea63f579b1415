"""What a training is asked to make, and what it tells of it. Light: both travel between processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..plan import TRAINING, MutationPlan
from ..recipe import Parent, Recipe
from ..scoring.preferences import Preferences

LINEAGE = "mutant.json"
PAIRS = "pairs.jsonl"


@dataclass(frozen=True)
class Trained:
    """What a training did.

    ``stopped`` says why it ended early; ``perplexity`` of the model's own right answers before and after,
    ``kl`` in nats per token from the model before, ``margin`` of DPO's rewards at the end; None where
    there is none, or no number any more.
    """

    steps: int
    stopped: str | None
    perplexity: tuple[float | None, float | None]
    kl: float | None
    margin: float | None
    tokens: int
    seconds: float


@dataclass(frozen=True)
class TrainingOrder:
    """An adapter to be trained on ``source`` from ``preferences``, in a folder ``target`` of its own.

    ``items`` names the tasks and files that the pairs come from, as the study file does.
    """

    source: Parent
    items: tuple[str, ...]
    preferences: Preferences
    plan: MutationPlan
    seed: int
    dtype: str
    device: str
    threads: int | None
    target: Path

    @property
    def base_name(self) -> str:
        """The base model's name in the adapter's config: the same on every machine."""
        source = self.source.source
        if isinstance(source, Recipe) or Path(source).is_absolute():
            return f"parent-{self.source.digest[:12]}"
        return source

    def record(self) -> dict[str, Any]:
        """The lineage that is kept beside the adapter."""
        return {
            "source": self.source.digest,
            "preference": list(self.items),
            "pairs": len(self.preferences.pairs),
            "pairs_digest": self.preferences.digest,
            "seed": self.seed,
            "settings": deciding(self.plan),
        }


def deciding(plan: MutationPlan) -> dict[str, Any]:
    """The settings that decide an adapter, as JSON data."""
    return {key: getattr(plan, key) for key in TRAINING}


def mutant_key(study: str, source: Parent, plan: MutationPlan, seed: int, items: Sequence[str]) -> str:
    """The name of a mutation: 16 hex digits of what it starts from and how it is to be made.

    ``items`` are the digests of the preference items; ``study`` keeps studies of one database apart. It is
    known before anything is run, so that a mutation that was cut short is found again, and is never made
    twice.
    """
    text = json.dumps([study, source.digest, deciding(plan), seed, list(items)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

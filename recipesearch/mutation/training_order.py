"""The order for a training, and its result. Light: both are sent between processes."""

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
    """The result of a training.

    ``stopped`` is the reason for an early stop. ``perplexity`` is measured on the model's own right answers,
    before and after. ``kl`` is the divergence from the model before training, in nats per token. ``margin``
    is the final margin of DPO's rewards. A missing or non-finite value is None.
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
    """The order to train an adapter on ``source`` with ``preferences`` and write it to the folder ``target``.

    ``items`` are the study file's names of the tasks and files that the pairs come from.
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
        """The lineage that is stored with the adapter."""
        return {
            "source": self.source.digest,
            "preference": list(self.items),
            "pairs": len(self.preferences.pairs),
            "pairs_digest": self.preferences.digest,
            "seed": self.seed,
            "settings": deciding(self.plan),
        }


def deciding(plan: MutationPlan) -> dict[str, Any]:
    """The settings that determine an adapter, as JSON data."""
    return {key: getattr(plan, key) for key in TRAINING}


def mutant_key(study: str, source: Parent, plan: MutationPlan, seed: int, items: Sequence[str]) -> str:
    """The name of a mutation: 16 hex digits of a digest of its source, settings, seed and items.

    ``items`` are the digests of the preference items; ``study`` separates the studies of one database. The
    key is known before training, so an interrupted mutation is found again and no mutation is trained twice.
    """
    text = json.dumps([study, source.digest, deciding(plan), seed, list(items)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

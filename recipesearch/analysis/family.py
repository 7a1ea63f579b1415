"""A recipe's family: the recipe and all its ancestors as a graph. Light; reads only trainings' record files.

The number of paths through the graph grows exponentially with the eras, so each model is visited once, by
its digest.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from ..mutation.training_order import LINEAGE
from ..recipe import Parent, Recipe
from ..recipe.shares import parent_shares

_KEYS = {"settings", "source", "pairs", "pairs_digest", "seed"}  # of every training record


@dataclass(frozen=True)
class Edge:
    """``child`` was made from ``parent`` (both digests), whose ``share`` of the child is from 0 to 1.

    The source of a mutant has share 1. A base that only gives the origin of task vectors, the config or the
    tokenizer has share 0.
    """

    child: str
    parent: str
    share: float


@dataclass(frozen=True)
class Family:
    """A recipe and its ancestors: the models by digest, the recipe (``root``) first, and the edges."""

    root: str
    models: Mapping[str, Parent]
    edges: tuple[Edge, ...]

    def made_of(self, digest: str) -> tuple[Edge, ...]:
        """The edges from a model to its own parents, by descending share."""
        return self._by_child.get(digest, ())

    @cached_property
    def oldest_first(self) -> list[str]:
        """The models' digests; parents come before their children."""
        graph = {digest: [edge.parent for edge in self.made_of(digest)] for digest in self.models}
        return list(TopologicalSorter(graph).static_order())

    @cached_property
    def _by_child(self) -> dict[str, tuple[Edge, ...]]:
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.child, []).append(edge)
        return {child: tuple(sorted(edges, key=lambda e: -e.share)) for child, edges in found.items()}


def walk(recipe: Recipe) -> Family:
    """The family of a recipe, walked breadth-first."""
    root = Parent(recipe.digest, recipe)
    models = {root.digest: root}
    edges: list[Edge] = []
    waiting = deque([root])
    while waiting:
        child = waiting.popleft()
        for parent, share in _made_of(child).items():
            edges.append(Edge(child.digest, parent.digest, share))
            if parent.digest not in models:
                models[parent.digest] = parent
                waiting.append(parent)
    return Family(root.digest, models, tuple(edges))


def training_record(mutant: Parent) -> dict[str, Any] | None:
    """The record that a training has written beside its adapter; None for an adapter of other origin."""
    try:
        content = json.loads((Path(str(mutant.adapter)) / LINEAGE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.keys() >= _KEYS else None


def _made_of(model: Parent) -> dict[Parent, float]:
    """The models that a model was made from, with shares: a recipe's parents, a mutant's source, else none.

    A plain model with an adapter of other origin counts as an initial parent. A recipe's parent with share 0
    is included if it is the base, or if vocabularies are aligned: the rows of some tokens may come from it.
    """
    recipe = model.source
    if not isinstance(recipe, Recipe):
        record = training_record(model) if model.adapter else None
        return {Parent(str(record["source"]), recipe, model.revision): 1.0} if record else {}
    if model.adapter:
        return {Parent(recipe.digest, recipe): 1.0}
    shares = parent_shares(recipe).items()
    return {p: share for p, share in shares if share > 0 or p == recipe.base or recipe.tokenizer}

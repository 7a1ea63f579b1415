"""A recipe's family as a graph. Light; reads nothing but what trainings have left beside their adapters.

Over eras the family is a DAG whose paths grow exponentially, so it is never walked as a tree: each model is
visited once, by its digest.
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

_TOLD = {"settings", "source", "pairs", "pairs_digest", "seed"}  # what every training of ours leaves


@dataclass(frozen=True)
class Edge:
    """``child`` was made of ``parent``, both digests, which has a ``share`` of it, 0 to 1.

    A mutant is wholly of what it was trained from. A share of 0 is a base that only gives the origin of
    task vectors, config and tokenizer.
    """

    child: str
    parent: str
    share: float


@dataclass(frozen=True)
class Family:
    """A recipe with all that it goes back to: the models by digest, itself first, and the edges."""

    root: str
    models: Mapping[str, Parent]
    edges: tuple[Edge, ...]

    def made_of(self, digest: str) -> tuple[Edge, ...]:
        """The edges from a model to its own parents, by falling share."""
        return self._by_child.get(digest, ())

    @cached_property
    def oldest_first(self) -> list[str]:
        """The models' digests, each after its own parents'."""
        graph = {digest: [edge.parent for edge in self.made_of(digest)] for digest in self.models}
        return list(TopologicalSorter(graph).static_order())

    @cached_property
    def _by_child(self) -> dict[str, tuple[Edge, ...]]:
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.child, []).append(edge)
        return {child: tuple(sorted(edges, key=lambda e: -e.share)) for child, edges in found.items()}


def walk(recipe: Recipe) -> Family:
    """The family of a recipe."""
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


def left_beside(mutant: Parent) -> dict[str, Any] | None:
    """What a training has left beside its adapter; None for an adapter from anywhere."""
    try:
        content = json.loads((Path(str(mutant.adapter)) / LINEAGE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.keys() >= _TOLD else None


def _made_of(model: Parent) -> dict[Parent, float]:
    """What a model was made of, with shares: a recipe of its parents, a mutant of one model, others of none.

    A plain model with an adapter from anywhere was there first. A recipe's parent without a share counts
    where it is the base, or where vocabularies are aligned: a token's row may be its, whatever its weight.
    """
    recipe = model.source
    if not isinstance(recipe, Recipe):
        record = left_beside(model) if model.adapter else None
        return {Parent(str(record["source"]), recipe, model.revision): 1.0} if record else {}
    if model.adapter:
        return {Parent(recipe.digest, recipe): 1.0}
    shares = parent_shares(recipe).items()
    return {p: share for p, share in shares if share > 0 or p == recipe.base or recipe.tokenizer}

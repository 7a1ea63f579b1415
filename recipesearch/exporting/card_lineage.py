"""The model card's sections on where a model comes from: its lineage, what its adapters learnt, licences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..analysis.trace import Lineage, Node
from ..errors import RefusedInput
from ..parents.identify import model_directory
from ..recipe import Parent
from ..report.lineage_tree import scores, tree_text

_FENCE = "---"
_UNSTATED = "not stated"


def lineage_sections(lineage: Lineage) -> str:
    """Both sections as Markdown; the first only where there is more than the recipe's own plain parents."""
    licences = "\n".join(_licence_line(node, lineage.family.models[node.digest]) for node in lineage.initial)
    sections = [f"## Licences of the parents\n\n{licences}"]
    if lineage.is_deep:
        sections.insert(0, _lineage(lineage))
    return "\n\n".join(sections)


def licence(folder: Path) -> str | None:
    """The licence that a model's card states in its front matter (``README.md``, key ``license``), if any.

    The Hub's own ``other`` is followed by its ``license_name``.
    """
    try:
        first, *lines = (folder / "README.md").read_text("utf-8").removeprefix("\ufeff").split("\n")
        if first.rstrip() != _FENCE:
            return None
        head = yaml.safe_load("\n".join(lines[: [line.rstrip() for line in lines].index(_FENCE)]))
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError):  # no card, or none with front matter
        return None
    stated = head.get("license") if isinstance(head, Mapping) else None
    if not stated:
        return None
    names = [str(name) for name in (stated if isinstance(stated, list) else [stated])]
    if names == ["other"] and head.get("license_name"):
        names = [f"other ({head['license_name']})"]
    return " ".join(", ".join(names).split())


def _licence_line(node: Node, model: Parent) -> str:
    return f"- {_named(node)}: licence: {_licence_of(model)}"


def _named(node: Node) -> str:
    """An initial parent by its name in the study file and its reference, or by the latter alone."""
    return f"`{node.reference}`" if node.title == node.reference else f"{node.title} (`{node.reference}`)"


def _licence_of(model: Parent) -> str:
    try:
        return licence(model_directory(model)) or _UNSTATED
    except RefusedInput:  # a hub model whose files are gone
        return _UNSTATED


def _lineage(lineage: Lineage) -> str:
    trained = [_training(node) for node in lineage.nodes.values() if node.kind == "mutant"]
    told = f"\n\nThe adapters, and what they were trained on:\n\n{chr(10).join(trained)}" if trained else ""
    return f"""## Lineage

A model's own parents stand below it, the first time that it comes, with their shares by weight. Scores are
those on the search items; of a mutant, before and after its training.

```
{tree_text(lineage)}
```{told}"""


def _training(node: Node) -> str:
    """One mutant's training in a list item: pairs, their digest, kind and settings, what it came to."""
    record: Mapping[str, Any] = node.mutation or {}
    if not record.get("settings"):
        return f"- {node.label}: an adapter from elsewhere; nothing is known of its training"
    settings, done = record["settings"], record.get("trained", {})
    kind, digest = str(settings["kind"]).upper(), record["pairs_digest"][:16]
    parts = [
        f"{kind} on {record['pairs']} pairs (digest `{digest}`)",
        f"chosen answers: {settings['chosen']}",
        *_items(record),
        *([f"beta {settings['beta']}"] if kind == "DPO" else []),
        f"learning rate {settings['learning_rate']}",
        f"{done.get('steps', settings['steps'])} steps of {settings['batch']}",
        f"LoRA rank {settings['rank']}",
        f"seed {record['seed']}",
        *([f"stopped early: {done['stopped']}"] if done.get("stopped") else []),
        *([scores(node)] if node.scores else []),
    ]
    return f"- {node.title}: {'; '.join(parts)}"


def _items(record: Mapping[str, Any]) -> list[str]:
    named = ", ".join(f"`{item}`" for item in record.get("preference", ()))
    return [f"items of {named}"] if named else []

"""The model card's sections on a model's origin: lineage, training of adapters, licences."""

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
    """The sections Lineage and Licences as Markdown. Lineage is left out if all parents are plain models."""
    licences = "\n".join(_licence_line(node, lineage.family.models[node.digest]) for node in lineage.initial)
    sections = [f"## Licences of the parents\n\n{licences}"]
    if lineage.is_deep:
        sections.insert(0, _lineage(lineage))
    return "\n\n".join(sections)


def licence(folder: Path) -> str | None:
    """The licence in the front matter of a model's card (``README.md``, key ``license``); None without one.

    The Hub's value ``other`` is followed by its ``license_name``.
    """
    try:
        first, *lines = (folder / "README.md").read_text("utf-8").removeprefix("\ufeff").split("\n")
        if first.rstrip() != _FENCE:
            return None
        head = yaml.safe_load("\n".join(lines[: [line.rstrip() for line in lines].index(_FENCE)]))
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError):  # no card, or no front matter
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
    """An initial parent by its name in the study file and its reference, or by the reference only."""
    return f"`{node.reference}`" if node.title == node.reference else f"{node.title} (`{node.reference}`)"


def _licence_of(model: Parent) -> str:
    try:
        return licence(model_directory(model)) or _UNSTATED
    except RefusedInput:  # a hub model without local files
        return _UNSTATED


def _lineage(lineage: Lineage) -> str:
    trained = [_training(node) for node in lineage.nodes.values() if node.kind == "mutant"]
    adapters = f"\n\nTraining of the adapters:\n\n{chr(10).join(trained)}" if trained else ""
    return f"""## Lineage

A model's parents are listed below its first occurrence, with their shares by weight. Scores are on the search
items; for a mutant, before and after its training.

```
{tree_text(lineage)}
```{adapters}"""


def _training(node: Node) -> str:
    """A list item on one mutant's training: pairs and their digest, kind, settings and outcome."""
    record: Mapping[str, Any] = node.mutation or {}
    if not record.get("settings"):
        return f"- {node.label}: an adapter from outside the study; its training is not recorded"
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

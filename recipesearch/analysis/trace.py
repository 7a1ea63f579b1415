"""The lineage of a trial: the family of its recipe, with the records of each model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..checking.preflight import Preflight
from ..errors import StudyError
from ..recipe import Parent, Recipe
from ..study.results import Results, Row
from .family import Family, training_record, walk
from .records import Named, Records, Scores, Trial, read_records, trial_of

Kind = Literal["initial", "merge", "mutant"]


@dataclass(frozen=True)
class Node:
    """One model of a lineage.

    ``title`` is a short name: ``math``, ``trial 57 of evo.e1``, ``mutant of trial 57 of evo.e1``. ``label``
    adds details in one line. ``era`` is the era, from 1, in which the model was found; a mutant has the era
    of the trial that it was made from, an initial parent has 0. ``scores`` are the known values on the search
    items by objective; ``before`` are the values of a mutant's source. ``mutation`` is the training's record.
    """

    digest: str
    kind: Kind
    title: str
    label: str
    era: int
    study: str | None = None
    trial: int | None = None
    reference: str | None = None
    scores: Scores = field(default_factory=dict)
    before: Scores = field(default_factory=dict)
    mutation: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Lineage:
    """A trial's family, and a node for each of its models by digest."""

    family: Family
    nodes: Mapping[str, Node]

    @property
    def root(self) -> Node:
        """The node of the trial."""
        return self.nodes[self.family.root]

    @property
    def initial(self) -> list[Node]:
        """The initial parents."""
        return [node for node in self.nodes.values() if node.kind == "initial"]

    @property
    def is_deep(self) -> bool:
        """Whether the lineage has merges or mutants among the trial's ancestors."""
        return any(node.kind != "initial" for node in self.nodes.values() if node is not self.root)

    def data(self) -> dict[str, Any]:
        """The lineage as JSON data: ``study``, ``trial``, ``root`` (a digest), ``nodes`` and ``edges``."""
        root = self.root
        return {
            "study": root.study,
            "trial": root.trial,
            "root": root.digest,
            "nodes": [asdict(node) for node in self.nodes.values()],
            "edges": [asdict(edge) for edge in self.family.edges],
        }


def trace(checked: Preflight, results: Results, row: Row) -> Lineage:
    """The lineage of a study's trial, back to the initial parents. ``checked`` is the study's preflight.

    Raises StudyError if the trial has no recipe yet, RefusedInput if a parent has changed since the trial.
    """
    if row.recipe is None:
        raise StudyError(f"trial {row.number} has no recipe yet; run the study first")
    family = walk(checked.recipe_of(row.number, row.genome, row.recipe))
    records = read_records(checked.plan, results, family.models)
    plan = checked.plan
    nodes = {family.root: _found(family.root, trial_of(plan, records.eras[plan.name], results, row))}
    for digest in family.oldest_first:
        nodes.setdefault(digest, _node(family, records, nodes, digest))
    return Lineage(family, {digest: nodes[digest] for digest in family.models})


def _node(family: Family, records: Records, nodes: Mapping[str, Node], digest: str) -> Node:
    """The node of a model whose own parents already have nodes."""
    model, made_of = family.models[digest], family.made_of(digest)
    if model.adapter and made_of:
        return _mutant(model, nodes[made_of[0].parent], records)
    if not isinstance(model.source, Recipe):
        return _initial(model, records.named.get(digest))
    if digest in records.trials:
        return _found(digest, records.trials[digest])
    era = max((nodes[edge.parent].era for edge in made_of), default=0)
    return _merge(digest, model.source.method, records.named.get(digest), era)


def _found(digest: str, trial: Trial) -> Node:
    label = trial.title + (f" ({trial.rule})" if trial.rule else "")
    return Node(
        digest, "merge", trial.title, label, trial.era, trial.study, trial.number, scores=trial.scores
    )


def _initial(model: Parent, named: Named | None) -> Node:
    if named is None:
        return Node(model.digest, "initial", model.reference, model.reference, 0, reference=model.reference)
    label = f"{named.name}: {named.reference}"
    return Node(model.digest, "initial", named.name, label, 0, reference=named.reference, scores=named.scores)


def _merge(digest: str, method: str, named: Named | None, era: int) -> Node:
    """The node of a recipe that no era has found: a study file or a recipe file names it."""
    if named is None:
        title = f"{method} merge {digest[:12]}"
        return Node(digest, "merge", title, title, era)
    label = f"{named.name}: {named.reference}"
    return Node(digest, "merge", named.name, label, era, reference=named.reference, scores=named.scores)


def _mutant(model: Parent, source: Node, records: Records) -> Node:
    """The node of a mutant. A variant, or a mutant of another database, was not judged by a gate."""
    mutant = records.mutants.get(model.digest)
    if mutant is None:
        return _unjudged(model, source, records.named.get(model.digest))
    title, changes = f"mutant of {source.title}", mutant.record.get("changes", ())
    return Node(
        model.digest,
        "mutant",
        title,
        f"{title}: {training_summary(mutant.record)}",
        records.eras.get(mutant.study, source.era),
        mutant.study,
        mutant.trial,
        scores={change["name"]: change["after"] for change in changes},
        before={change["name"]: change["before"] for change in changes},
        mutation={**mutant.record, "accepted": mutant.accepted, "reason": mutant.reason},
    )


def _unjudged(model: Parent, source: Node, named: Named | None) -> Node:
    title, record = f"mutant of {source.title}", training_record(model)
    if named and source.kind == "initial":  # one model may have several variants
        title = f"variant {named.name} of {source.title}"
    label = f"{title}: {training_summary(record) if record else model.adapter}"
    scores = named.scores if named else {}
    return Node(model.digest, "mutant", title, label, source.era, scores=scores, mutation=record)


def training_summary(record: Mapping[str, Any]) -> str:
    """A training in a few words: ``DPO, 256 pairs, lr 1e-4, 60 steps``."""
    settings = record.get("settings", {})
    steps = record.get("trained", {}).get("steps", settings.get("steps"))
    rate = settings.get("learning_rate")
    parts = [
        str(settings.get("kind", "adapter")).upper(),
        f"{record.get('pairs', '?')} pairs",
        f"lr {_short(float(rate))}" if rate is not None else "",
        f"{steps} steps" if steps is not None else "",
    ]
    return ", ".join(text for text in parts if text)


def _short(number: float) -> str:
    """A number with a short exponent: 1e-4, 2.5e-5."""
    mantissa, _, exponent = f"{number:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}" if abs(int(exponent)) > 2 else f"{number:g}"

"""The value Parents: a study's parents, examined once and passed to all code that needs them. Light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import RefusedInput
from ..parents.headers import Checkpoint, read_checkpoint
from ..parents.identify import identify, locate
from ..parents.memory import require_room
from ..parents.shapes import shapes
from ..parents.tokenizer_files import Settled
from ..plan import FRONT, Plan
from ..recipe import Parent
from .alignment import builder, settle_vocabulary, warn_of_other_tokens


@dataclass(frozen=True)
class Member:
    """A parent that is a member of an earlier era's front, with its study and trial.

    ``shapes`` replaces the headers of a member that no run has found yet. ``references`` maps the parents of
    that era and of the eras before it to their names in the study file.
    """

    parent: Parent
    study: str
    trial: int | None
    shapes: Checkpoint | None = None
    references: Mapping[Parent, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownParent:
    """One parent: its reference in the study file, its content, and its headers after any resizing."""

    reference: str
    parent: Parent
    checkpoint: Checkpoint
    member: Member | None = None


@dataclass(frozen=True)
class Parents:
    """A study's parents by name, in the study file's order.

    The ``donor`` gives the live model its config and tokenizer. If the study has a ``vocabulary`` of its own,
    the checkpoints are resized to it.
    """

    by_name: Mapping[str, KnownParent]
    donor: str
    vocabulary: Settled | None = None

    @property
    def models(self) -> dict[str, Parent]:
        """The parents by name."""
        return {name: known.parent for name, known in self.by_name.items()}

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """The parents' headers by name."""
        return {name: known.checkpoint for name, known in self.by_name.items()}

    def references(self) -> dict[Parent, str]:
        """The study file's reference to each parent, including the parents of earlier eras."""
        known = self.by_name.values()
        earlier = {p: ref for one in known if one.member for p, ref in one.member.references.items()}
        return earlier | {one.parent: one.reference for one in known if one.member is None}


def examine(plan: Plan, front: Mapping[str, Member], *, to_run: bool) -> Parents:
    """Identifies a plan's parents and reads their headers.

    ``front`` maps the plan's references to members of the previous era's front. Raises RefusedInput for
    parents that are missing, unsafe or damaged and, with ``to_run``, for parents that do not fit into memory.
    """
    located = _read_located(plan)
    if to_run:  # first: identifying reads every byte of every parent
        require_room(plan, located)
    found = {name: _examined(plan, name, front, located.get(name)) for name in plan.parents}
    settled = settle_vocabulary(plan, {name: known.parent for name, known in found.items()})
    parents = Parents(resized(found, settled.size) if settled else found, plan.donor, settled)
    if settled is None:
        warn_of_other_tokens(parents.checkpoints)
    if to_run and (settled or located.keys() < found.keys()):
        require_room(plan, parents.checkpoints)
    return parents


def resized(parents: Mapping[str, KnownParent], vocabulary: int) -> dict[str, KnownParent]:
    """The parents with their checkpoints resized to ``vocabulary`` rows."""
    return {
        name: replace(known, checkpoint=known.checkpoint.with_vocabulary(vocabulary))
        for name, known in parents.items()
    }


def _read_located(plan: Plan) -> dict[str, Checkpoint]:
    """The headers of the parents that are plain model folders, not recipes or adapters."""
    named = {name: ref for name, ref in plan.parents.items() if not ref.startswith(FRONT)}
    folders = {name: locate(reference, plan.folder) for name, reference in named.items()}
    return {name: read_checkpoint(folder) for name, folder in folders.items() if folder}


def _examined(plan: Plan, name: str, front: Mapping[str, Member], read: Checkpoint | None) -> KnownParent:
    reference = plan.parents[name]
    member = front.get(reference)
    parent = member.parent if member else identify(reference, plan.folder)
    checkpoint = read or (member and member.shapes) or shapes(parent, builder(plan.engine.threads))
    return KnownParent(reference, parent, checkpoint, member)


def require_distinct(parents: Mapping[str, KnownParent]) -> None:
    """Raises RefusedInput if two parents are the same model."""
    names: dict[str, str] = {}
    for name, known in parents.items():
        first = names.setdefault(known.parent.digest, name)
        if first != name:
            named = " and ".join(dict.fromkeys((parents[first].reference, known.reference)))
            raise RefusedInput(f"parents '{first}' and '{name}' are the same model ({named}); remove one")

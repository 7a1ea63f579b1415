"""A plan checked without its parents' files: hub models by their recorded configs, tasks by what they state.

For study files that are kept beside the configs of what they name (``configs/ORG/NAME.json``, written by
``scripts/record_configs.py``). A config says nothing of tokens: parents that are aligned get the base's size.
"""

from __future__ import annotations

import hashlib

from ..errors import RefusedInput
from ..parents.headers import Checkpoint
from ..parents.identify import identify, recorded_config
from ..parents.shapes import shapes
from ..plan import Plan
from ..recipe import Parent
from ..scoring.stated import require_stated
from .alignment import builder, stated_tokenizer
from .members import stand_ins
from .parents import KnownParent, Parents, resized
from .preflight import Preflight, fit


def check_offline(plan: Plan, before: Preflight | None) -> Preflight:
    """The plan's preflight from recorded configs; ``before`` is that of the era before.

    Raises PlanError or RefusedInput as ``preflight`` does, and for a hub model whose config is not recorded.
    """
    for goal in (*plan.goals, *plan.held_out_goals):
        require_stated(goal)
    front = stand_ins(plan, before) if before else {}
    found: dict[str, KnownParent] = {}
    for name, reference in plan.parents.items():
        if member := front.get(reference):
            assert member.shapes
            found[name] = KnownParent(reference, member.parent, member.shapes, member)
        else:
            found[name] = KnownParent(reference, *_recorded(plan, reference))
    tokenizer = stated_tokenizer(plan, {name: known.parent for name, known in found.items()})
    if tokenizer:
        found = resized(found, found[plan.donor].checkpoint.vocabulary)
    return fit(plan, Parents(found, plan.donor), tokenizer)


def _recorded(plan: Plan, reference: str) -> tuple[Parent, Checkpoint]:
    config = recorded_config(reference, plan.folder)
    if config is None:
        parent = identify(reference, plan.folder)
        return parent, shapes(parent, builder(plan.engine.threads))
    if not config.exists():
        raise RefusedInput(
            f"'{reference}': its config is not recorded at {config}; scripts/record_configs.py does that, "
            "with a network"
        )
    from .recorded import recorded_checkpoint

    name, _, revision = reference.partition("+")[0].partition("@")
    digest = hashlib.sha256(reference.encode()).hexdigest()
    return Parent(digest, name, revision or None), recorded_checkpoint(config)

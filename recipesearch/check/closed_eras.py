"""Closed eras: an era may not change once the next era has begun from its front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import PlanError
from ..plan import ROOM_OPTIONS, Plan
from ..study.chain import stored_plan
from ..study.identity import Identity
from .members import members
from .preflight import preflight


def closed(plans: Sequence[Plan]) -> int:
    """How many of a study file's eras are closed: those before the last one begun, whose fronts are parents.

    Raises PlanError if one of them, or their order, is not what was run.
    """
    stored = [stored_plan(plan) for plan in plans]
    last = max((place for place, was in enumerate(stored) if was), default=0)
    if not all(stored[:last]):
        missing = plans[stored.index(None)].era
        raise PlanError(
            f"era '{missing}' has not begun, and '{plans[last].era}' after it has: add new eras at the end, "
            "or give the study another name"
        )
    for place, was in enumerate(stored[: last + 1]):
        if was:
            _require_as_begun(plans[place], *was, whole=place < last)
    return last


def _require_as_begun(plan: Plan, was: Plan, identity: Identity, *, whole: bool) -> None:
    """Raises PlanError if an era follows another one than it did; ``whole``: or if it is not what was run."""
    if was.after != plan.after:
        raise PlanError(
            f"era '{plan.era}' began after '{was.after}', and now follows '{plan.after}': add new eras at "
            "the end, or give the study another name"
        )
    if not whole:
        return
    then, now = _fixed(was), _fixed(plan)
    parents = preflight(plan, members(plan), to_run=False).pool.parents
    then["parents"] = dict(identity["parents"])
    now["parents"] = {name: parent.digest for name, parent in parents.items()}
    if changed := sorted(key for key in now if now[key] != then[key]):
        raise PlanError(
            f"era '{plan.era}' is closed since the next one has begun from its front, but its "
            f"{' and '.join(changed)} changed; undo that, or give the study another name"
        )


def _fixed(plan: Plan) -> dict[str, Any]:
    """What of a closed era's plan has to stay, its parents aside."""
    content = plan.model_dump(
        mode="json", exclude={"storage", "folder", "held_out", "parents", "preference", "mutation"}
    )
    content["search"].pop("max_failure_rate")
    content["engine"].pop("timeout")
    options = content["engine"]["options"]
    content["engine"]["options"] = {key: options[key] for key in options if key not in ROOM_OPTIONS}
    return content

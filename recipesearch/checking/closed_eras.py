"""Closed eras: an era may not change once the next era has begun from its front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import PlanError
from ..plan import Plan
from ..study.chain import stored_plan
from ..study.identity import Identity
from ..study.storage import Database
from .members import open_preflight


def closed(database: Database, plans: Sequence[Plan]) -> int:
    """How many of a study file's eras are closed: those before the last one begun, whose fronts are parents.

    Raises PlanError if one of them, or their order, is not what was run.
    """
    stored = [stored_plan(database, plan) for plan in plans]
    last = max((place for place, was in enumerate(stored) if was), default=0)
    if not all(stored[:last]):
        missing = plans[stored.index(None)].era
        raise PlanError(
            f"era '{missing}' has not begun, and '{plans[last].era}' after it has: add new eras at the end, "
            "or give the study another name"
        )
    for place, was in enumerate(stored[: last + 1]):
        if was:
            _require_same_order(plans[place], was[0])
            if place < last:
                _require_unchanged(plans[place], *was, database)
    return last


def _require_same_order(plan: Plan, was: Plan) -> None:
    """Raises PlanError if an era follows another era than the one that it began after."""
    if was.after != plan.after:
        raise PlanError(
            f"era '{plan.era}' began after '{was.after}', and now follows '{plan.after}': add new eras at "
            "the end, or give the study another name"
        )


def _require_unchanged(plan: Plan, was: Plan, identity: Identity, database: Database) -> None:
    """Raises PlanError if a closed era is not the one that was run."""
    then, now = _fixed(was), _fixed(plan)
    then["parents"] = dict(identity["parents"])
    now["parents"] = {name: p.digest for name, p in open_preflight(plan, database).pool.parents.items()}
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
    content["engine"]["options"] = plan.engine.deciding_options
    return content

"""Closed eras: an era may not change once the next era has started from its front."""

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
    """The number of closed eras of a study file: all eras before the last one that has started.

    Raises PlanError if a closed era or the order of the eras has changed since it was run.
    """
    stored = [stored_plan(database, plan) for plan in plans]
    last = max((place for place, was in enumerate(stored) if was), default=0)
    if not all(stored[:last]):
        missing = plans[stored.index(None)].era
        raise PlanError(
            f"era '{missing}' has not started, but the later era '{plans[last].era}' has: add new eras at "
            "the end, or give the study another name"
        )
    for place, was in enumerate(stored[: last + 1]):
        if was:
            _require_same_order(plans[place], was[0])
            if place < last:
                _require_unchanged(plans[place], *was, database)
    return last


def _require_same_order(plan: Plan, was: Plan) -> None:
    """Raises PlanError if an era follows another era than in its first run."""
    if was.after != plan.after:
        raise PlanError(
            f"era '{plan.era}' followed '{was.after}' at first, and now follows '{plan.after}': add new eras "
            "at the end, or give the study another name"
        )


def _require_unchanged(plan: Plan, was: Plan, identity: Identity, database: Database) -> None:
    """Raises PlanError if a closed era has changed since it was run."""
    then, now = _fixed(was), _fixed(plan)
    then["parents"] = dict(identity["parents"])
    now["parents"] = {name: p.digest for name, p in open_preflight(plan, database).pool.parents.items()}
    if changed := sorted(key for key in now if now[key] != then[key]):
        raise PlanError(
            f"era '{plan.era}' is closed because the next era has started from its front, but its "
            f"{' and '.join(changed)} changed; undo the change, or give the study another name"
        )


def _fixed(plan: Plan) -> dict[str, Any]:
    """The parts of a closed era's plan that may not change, except its parents."""
    content = plan.model_dump(
        mode="json", exclude={"storage", "folder", "held_out", "parents", "preference", "mutation"}
    )
    content["search"].pop("max_failure_rate")
    for key in ("timeout", "workers"):
        content["engine"].pop(key)
    content["engine"]["options"] = plan.engine.deciding_options
    return content

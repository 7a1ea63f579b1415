"""The identity of a study: if any part of it changed, old and new scores would not be comparable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json

from ..errors import PlanError
from ..plan import Plan
from ..recipe import Parent
from ..score import Conditions, Goal

Identity = Mapping[str, Any]

_MAY_CHANGE = {"trials", "max_items", "hours", "max_failure_rate"}  # of the section search


def identify_study(
    plan: Plan,
    parents: Mapping[str, Parent],
    genes: Mapping[str, BaseDistribution],
    goals: Sequence[Goal],
    conditions: Conditions,
    sampler: str,
) -> dict[str, Any]:
    """The identity of a plan's study as JSON data.

    ``goals`` are the objectives with their tasks' hashes; ``sampler`` is the sampler in use, also for
    ``sampler: auto``. The budget and the held-out tasks may change, so they are not part of the identity.
    """
    return {
        "parents": {name: parent.digest for name, parent in parents.items()},
        "base": plan.base,
        "space": {kind: keys for kind, keys in plan.space.model_dump(mode="json").items() if keys},
        "objectives": [
            {
                "name": goal.name,
                "task": goal.hash,
                "metric": goal.metric,
                "maximize": goal.maximize,
                **{key: bound for key in ("bound", "within") if (bound := getattr(goal, key)) is not None},
            }
            for goal in goals
        ],
        "search": {
            **plan.search.model_dump(mode="json", exclude=_MAY_CHANGE | _unset(plan)),
            "sampler": sampler,
        },
        **({"tokenizer": plan.tokenizer.model_dump(mode="json")} if plan.tokenizer else {}),
        "engine": {"label": conditions.engine, **_stated(conditions)},
        # Last, so that a change is first reported in the user's terms: genes follow from the space above
        # unless another version expands the space differently.
        "genes": {name: json.loads(distribution_to_json(gene)) for name, gene in genes.items()},
    }


def _unset(plan: Plan) -> set[str]:
    """``items`` unless it is set: older studies lack the key."""
    return {"items"} if plan.search.items is None else set()


def goals_of(identity: Identity) -> tuple[Goal, ...]:
    """The objectives of a stored study, in order."""
    return tuple(
        Goal(
            objective["name"],
            "",
            objective["metric"],
            objective["maximize"],
            objective.get("bound"),
            objective.get("within"),
            objective["task"],
        )
        for objective in identity["objectives"]
    )


def _stated(conditions: Conditions) -> dict[str, Any]:
    """The conditions as JSON data, without empty ``options`` and ``gpu``: older studies lack these keys."""
    return {
        name: value for name, value in asdict(conditions).items() if value or name not in ("options", "gpu")
    }


def require_same(name: str, stored: Identity, wanted: Identity) -> None:
    """Raises PlanError, listing the differences, if a stored study is not the one that the plan describes."""
    changes = list(_differences(stored, wanted))
    before, now = (", ".join(identity["parents"]) for identity in (stored, wanted))
    if not changes and before != now:  # recipes keep the order, and the first parent may give the config
        changes = [f"the parents' order was {before}, now {now}"]
    if changes:
        shown = "; ".join(changes[:3]) + (f"; and {len(changes) - 3} more" if len(changes) > 3 else "")
        raise PlanError(
            f"study '{name}' was created with other settings: {shown}. "
            "Undo the change to resume the study, or give the plan another name"
        )


def _differences(old: Any, new: Any, place: str = "") -> Sequence[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            change
            for key in keys
            for change in _differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
        ]
    if json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True):
        return []
    return [f"{place} was {_short(old)}, now {_short(new)}"]


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."

"""Splits a study file of several eras into one plan for each. Keys outside ``eras`` apply to every era."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PlanError, nearest

FRONT = "front:"  # prefix of a parent reference to a member of the previous era's front
MOST_ERAS = 50  # plain recursion can still read and pickle a recipe of this many generations
# The keys of an era. `parents` and the others replace the file's value; `search` is merged with the file's.
_OWN = ("name", "parents", "base", "space", "search", "tokenizer")


def era_name(study: str, era: str) -> str:
    """The name of an era's Optuna study in the database."""
    return f"{study}.{era}"


def expand(raw: Mapping[str, Any], origin: str) -> list[dict[str, Any]]:
    """The plans of a study file's eras as plain data, in order. Raises PlanError for a malformed era."""
    raw = _bred_eras(raw, origin)
    eras = raw.get("eras")
    if eras is None:
        return [dict(raw)]
    if not isinstance(eras, Sequence) or isinstance(eras, str) or not eras:
        raise PlanError(f"{origin}: eras: give a list of eras, each with a name and a space")
    if "space" in raw:
        raise PlanError(f"{origin}: give space, or eras with a space each; not both")
    shared = {key: value for key, value in raw.items() if key != "eras"}
    _require_shared(shared, origin)
    plans: list[dict[str, Any]] = []
    for place, era in enumerate(eras):
        _require_era(era, place, [str(plan["era"]) for plan in plans], origin)
        plans.append(_plan(shared, era, str(plans[-1]["name"]) if plans else None))
    return plans


def _plan(shared: Mapping[str, Any], era: Mapping[str, Any], before: str | None) -> dict[str, Any]:
    parents = era.get("parents", shared.get("parents"))
    inherited = shared.get("base") if shared.get("base") in list(parents or ()) else None
    search = {**(shared.get("search") or {}), **(era.get("search") or {})}
    study = str(shared.get("name", ""))
    return {
        **shared,
        "storage": shared.get("storage") or f"sqlite:///{study}.db",  # one for all eras
        "name": era_name(study, str(era["name"])),
        "era": str(era["name"]),
        "after": before,
        "parents": parents,
        "base": era.get("base", inherited),
        "space": era.get("space"),
        **({"search": search} if search else {}),
        "tokenizer": era.get("tokenizer", shared.get("tokenizer")),
    }


def _bred_eras(raw: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    """The file with ``mutation.eras`` written out as eras e1, e2, ..., all with the file's one space."""
    mutation = raw.get("mutation")
    count = mutation.get("eras", 1) if isinstance(mutation, Mapping) else 1
    if not isinstance(count, int) or not 1 < count <= MOST_ERAS:  # no loop, or a value that Plan rejects
        return raw
    if raw.get("eras") is not None:
        raise PlanError(f"{origin}: mutation.eras repeats one space; give space instead of eras")
    eras = [{"name": f"e{number}", "space": raw.get("space")} for number in range(1, count + 1)]
    return {**{key: value for key, value in raw.items() if key != "space"}, "eras": eras}


def _require_shared(shared: Mapping[str, Any], origin: str) -> None:
    if not shared.get("name") or not isinstance(shared["name"], str):
        raise PlanError(f"{origin}: the study has no name; add 'name:' with a text")
    for key in ("parents", "search"):
        if not isinstance(shared.get(key) or {}, Mapping):
            raise PlanError(f"{origin}: {key}: expected a mapping of keys")


def _require_era(era: Any, place: int, names: Sequence[str], origin: str) -> None:
    where = f"{origin}: eras.{place}"
    if not isinstance(era, Mapping) or not isinstance(era.get("name"), str):
        raise PlanError(f"{where}: expected a mapping with a 'name'")
    for key in era:
        if key not in _OWN:
            raise PlanError(f"{where}: unknown key '{key}': {nearest(key, _OWN)}; other keys go outside eras")
    if not era["name"].replace("-", "").replace("_", "").isalnum():
        raise PlanError(f"{where}: era name '{era['name']}': use letters, digits, '-' and '_'")
    if era["name"] in names:
        raise PlanError(f"{where}: two eras are both called '{era['name']}'; rename one")
    for key in ("parents", "search"):
        if not isinstance(era.get(key) or {}, Mapping):
            raise PlanError(f"{where}: {key}: expected a mapping of keys")
    if "space" not in era:
        raise PlanError(f"{where}: the era has no space; add 'space:'")

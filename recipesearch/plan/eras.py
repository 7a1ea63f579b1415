"""A study file of several eras, as one plan for each: what an era does not say, the file says for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PlanError, nearest

FRONT = "front:"  # what a parent's reference to a member of the last era's front starts with
MOST_ERAS = 50  # a recipe of so many generations is still read, and pickled, by plain recursion
# What an era may say for itself; `parents` and `space` stand for themselves, `search` adds to the file's.
_OWN = ("name", "parents", "base", "space", "search", "tokenizer")


def era_name(study: str, era: str) -> str:
    """What an era's Optuna study is called in the database."""
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
    """The file with the eras of its loop of mutations, e1, e2, ..., which are all over one space."""
    mutation = raw.get("mutation")
    count = mutation.get("eras", 1) if isinstance(mutation, Mapping) else 1
    if not isinstance(count, int) or not 1 < count <= MOST_ERAS:  # or there is no loop, or the Plan says why
        return raw
    if raw.get("eras") is not None:
        raise PlanError(f"{origin}: mutation.eras repeats one space: give space, not eras")
    eras = [{"name": f"e{number}", "space": raw.get("space")} for number in range(1, count + 1)]
    return {**{key: value for key, value in raw.items() if key != "space"}, "eras": eras}


def _require_shared(shared: Mapping[str, Any], origin: str) -> None:
    if not shared.get("name") or not isinstance(shared["name"], str):
        raise PlanError(f"{origin}: name: the study needs one")
    for key in ("parents", "search"):
        if not isinstance(shared.get(key) or {}, Mapping):
            raise PlanError(f"{origin}: {key}: it is a section of the study file")


def _require_era(era: Any, place: int, names: Sequence[str], origin: str) -> None:
    where = f"{origin}: eras.{place}"
    if not isinstance(era, Mapping) or not isinstance(era.get("name"), str):
        raise PlanError(f"{where}: an era is a mapping with a name")
    for key in era:
        if key not in _OWN:
            raise PlanError(f"{where}: unknown key '{key}': {nearest(key, _OWN)}; other keys are all eras'")
    if not era["name"].replace("-", "").replace("_", "").isalnum():
        raise PlanError(f"{where}: era name '{era['name']}': use letters, digits, '-' and '_'")
    if era["name"] in names:
        raise PlanError(f"{where}: two eras are both called '{era['name']}'")
    for key in ("parents", "search"):
        if not isinstance(era.get(key) or {}, Mapping):
            raise PlanError(f"{where}: {key}: it is a section")
    if "space" not in era:
        raise PlanError(f"{where}: the era has no space")

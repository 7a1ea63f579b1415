"""Reads a study file, and says in one line what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import PlanError, nearest
from .eras import expand
from .plan import INTERNAL, Plan
from .section import BadKey


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """A study file's only plan, or that of its first era; as in ``load_plans``."""
    return load_plans(path, overrides)[0]


def load_plans(path: Path, overrides: Sequence[str] = ()) -> tuple[Plan, ...]:
    """Reads a study file into a plan for each of its eras; without eras, it is one.

    ``overrides`` are ``dotted.key=value`` texts that replace or add values; an era is named by its name or
    number (``eras.layers.search.trials=50``). Raises PlanError, naming the key and the nearest known one, for
    anything that is not a plan.
    """
    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot read the study file ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise PlanError(f"{path}: a study file is a mapping of keys; see 'recipesearch init'")
    for override in overrides:
        _override(raw, override)
    if "folder" in raw:
        raise PlanError(f"{path}: unknown key 'folder': relative paths start at the file's own folder")
    for key in sorted(INTERNAL & raw.keys()):
        raise PlanError(f"{path}: unknown key '{key}': {nearest(key, _fields_at([]))}")
    folder = path.parent.absolute()
    return tuple(read_plan(plan, folder, _origin(path, plan)) for plan in expand(raw, str(path)))


def read_plan(raw: Mapping[str, Any], folder: Path, origin: str) -> Plan:
    """A Plan from plain data. ``origin`` names it in errors. Raises PlanError."""
    try:
        return Plan.model_validate({**raw, "folder": folder})
    except ValidationError as error:
        raise PlanError(f"{origin}: {_explain(error)}") from error


def _override(raw: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise PlanError(f"--set {override}: write it as key=value, for instance search.trials=500")
    *path, last = key.split(".")
    section: Any = raw
    for part in path:
        among_eras = isinstance(section, list) and section is raw.get("eras")
        section = _era(section, part) if among_eras else section.setdefault(part, {})
        if not isinstance(section, dict) and section is not raw.get("eras"):
            raise PlanError(f"--set {override}: '{part}' is not a section of the study file")
    if not isinstance(section, dict):
        raise PlanError(f"--set {override}: name one of the eras, as in eras.0.{last}={value}")
    try:
        section[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise PlanError(f"--set {override}: the value is not YAML") from error


def _origin(path: Path, plan: Mapping[str, Any]) -> str:
    return f"{path}: era '{plan['era']}'" if plan.get("era") else str(path)


def _era(eras: list[Any], name: str) -> Any:
    """One of the eras by name or number; None if there is no such."""
    named = [era for era in eras if isinstance(era, dict) and era.get("name") == name]
    by_number = eras[int(name) : int(name) + 1] if name.isdecimal() else []
    return next(iter([*named, *by_number]), None)


def _explain(error: ValidationError) -> str:
    """The first problem, in one line, with the place and a hint."""
    problem = error.errors()[0]
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{'.'.join(place)}': {nearest(place[-1], _fields_at(place[:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, BadKey):
        place.append(cause.key)
        if cause.unknown:
            return f"unknown key '{'.'.join(place)}': {message}"
    return f"{'.'.join(place)}: {message}" if place else message


def _fields_at(place: Sequence[str]) -> list[str]:
    """The keys that the section at a place knows."""
    section: type[BaseModel] = Plan
    for part in place:
        if field := section.model_fields.get(part):  # else the place in a list, or the key of a mapping
            inside = (field.annotation, *get_args(field.annotation))
            section = next((a for a in inside if isinstance(a, type) and issubclass(a, BaseModel)), section)
    fields = [*section.model_fields, "eras"] if section is Plan else section.model_fields
    return [name for name in fields if name not in INTERNAL]

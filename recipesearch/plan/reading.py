"""Reads a study file, and reports its first mistake in one line."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import PlanError, nearest
from .eras import expand
from .plan import INTERNAL, Plan
from .section import BadKey

Settings = Mapping[str, Any] | Sequence[str]


def load_plan(path: Path, settings: Settings = ()) -> Plan:
    """A study file's first plan, read as by ``load_plans``."""
    return load_plans(path, settings)[0]


def load_plans(path: Path, settings: Settings = ()) -> tuple[Plan, ...]:
    """Reads a study file into a plan for each of its eras; a file without eras is one plan.

    ``settings`` replace or add values by dotted key, as a mapping or as ``key=value`` texts. Keys refer to an
    era by name or number (``eras.layers.search.trials=50``). Raises PlanError for an invalid study file, with
    the key at fault and the nearest known key.
    """
    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot read the study file ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: invalid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise PlanError(f"{path}: a study file is a mapping of keys; see 'recipesearch init'")
    return read_plans(raw, path.parent.absolute(), str(path), settings)


def read_plans(
    raw: Mapping[str, Any], folder: Path, origin: str, settings: Settings = ()
) -> tuple[Plan, ...]:
    """The plans of a study given as plain data, as a study file has it; relative paths start at ``folder``.

    ``settings`` as in ``load_plans``. ``origin`` names the data in errors. Raises PlanError.
    """
    changed = copy.deepcopy(dict(raw))
    for key, value in by_key(settings).items():
        _override(changed, key, value)
    if "folder" in changed:
        raise PlanError(f"{origin}: unknown key 'folder': relative paths start at the file's own folder")
    for key in sorted(INTERNAL & changed.keys()):
        raise PlanError(f"{origin}: unknown key '{key}': {nearest(key, _fields_at([]))}")
    return tuple(read_plan(plan, folder, _origin(origin, plan)) for plan in expand(changed, origin))


def read_plan(raw: Mapping[str, Any], folder: Path, origin: str) -> Plan:
    """A Plan from plain data. ``origin`` names it in errors. Raises PlanError."""
    try:
        return Plan.model_validate({**raw, "folder": folder})
    except ValidationError as error:
        raise PlanError(f"{origin}: {_explain(error)}") from error


def by_key(settings: Settings) -> dict[str, Any]:
    """Settings by dotted key, from a mapping or from ``key=value`` texts. Raises PlanError."""
    return dict(settings) if isinstance(settings, Mapping) else dict(map(_parse_setting, settings))


def _parse_setting(text: str) -> tuple[str, Any]:
    """A ``--set`` argument, ``dotted.key=value``, as key and YAML value. Raises PlanError."""
    key, separator, value = text.partition("=")
    if not separator:
        raise PlanError(f"--set {text}: write it as key=value, for instance search.trials=500")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise PlanError(f"--set {text}: the value is not YAML; check its quotes and brackets") from error


def _override(raw: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    section: Any = raw
    for part in path:
        among_eras = isinstance(section, list) and section is raw.get("eras")
        section = _era(section, part) if among_eras else section.setdefault(part, {})
        if not isinstance(section, dict) and section is not raw.get("eras"):
            raise PlanError(f"--set {key}={value}: '{part}' is not a section of the study file")
    if not isinstance(section, dict):
        raise PlanError(f"--set {key}={value}: name one of the eras, as in eras.0.{last}={value}")
    section[last] = value


def _origin(origin: str, plan: Mapping[str, Any]) -> str:
    return f"{origin}: era '{plan['era']}'" if plan.get("era") else origin


def _era(eras: list[Any], name: str) -> Any:
    """One of the eras by name or number; None if there is no such era."""
    named = [era for era in eras if isinstance(era, dict) and era.get("name") == name]
    by_number = eras[int(name) : int(name) + 1] if name.isdecimal() else []
    return next(iter([*named, *by_number]), None)


def _explain(error: ValidationError) -> str:
    """The first problem in one line, with its key and a hint."""
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
    """The known keys of the section at a place."""
    section: type[BaseModel] = Plan
    for part in place:
        if field := section.model_fields.get(part):  # otherwise an index into a list, or a key of a mapping
            inside = (field.annotation, *get_args(field.annotation))
            section = next((a for a in inside if isinstance(a, type) and issubclass(a, BaseModel)), section)
    fields = [*section.model_fields, "eras"] if section is Plan else section.model_fields
    return [name for name in fields if name not in INTERNAL]

"""Plan: the study file, read and checked once, then frozen. Light: opens no model and no task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import PlanError, nearest
from .methods import METHODS, Method, Parameter
from .score import FUNCTION, VALUE, Objective

Range = tuple[FiniteFloat, FiniteFloat]
# mergekit's own chat templates (mergekit._data.chat_templates); auto takes the most common of the parents'.
_TEMPLATES = ("auto", "alpaca", "chatml", "exaone", "llama3", "mistral")
# vLLM's arguments that are not the user's: what is merged and scored decides them.
_SET_BY_US = ("model", "tokenizer", "dtype", "seed", "worker_extension_cls", "quantization", "enable_lora")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class _BadKey(ValueError):
    """A section's key that is unknown, or has a value that does not fit, where the section checks it."""

    def __init__(self, key: str, problem: str, *, unknown: bool = False) -> None:
        super().__init__(problem)
        self.key, self.unknown = key, unknown


class WeightsPlan(_Section):
    """The weight space: which methods, and how finely their parameters may differ.

    Beside the keys below it takes the methods' parameters by name: a range to search instead of the table's,
    or one value to hold.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    methods: tuple[str, ...] = Field(min_length=1)
    parents: Literal["all", "subset"] = "all"
    base: Literal["fixed", "any"] = "fixed"
    layer_groups: int = Field(default=1, ge=1)
    gradient: int | None = Field(default=None, ge=2)
    filters: tuple[str, ...] = ()
    own: tuple[Literal["embed", "head", "norm"], ...] = ()

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for method in methods:
            if method not in METHODS:
                raise ValueError(f"unknown merge method '{method}': {nearest(method, METHODS)}")
        return tuple(dict.fromkeys(methods))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gradient and self.layer_groups > 1:
            raise ValueError("gradient spans all layers: drop layer_groups, or the gradient")
        # Of all methods: a range stays where it is when a method that it served is dropped.
        searched = {p.gene: p for method in METHODS.values() for p in method.parameters}
        held = {name for method in METHODS.values() for name in _held(method)}
        for name, value in self._given.items():
            if name in searched:
                _require_setting(searched[name], value)
            elif name not in held:
                known = [*type(self).model_fields, *searched, *held]
                raise _BadKey(name, nearest(name, known), unknown=True)
            elif isinstance(value, list | tuple | Mapping):
                raise _BadKey(name, "it is not searched: give one value")
        return self

    @property
    def _given(self) -> dict[str, Any]:
        return self.model_extra or {}

    def setting(self, parameter: Parameter) -> Range | float:
        """The range to search a parameter in, or the one value it has."""
        value = self._given.get(parameter.gene, (parameter.low, parameter.high))
        return (float(value[0]), float(value[1])) if isinstance(value, list | tuple) else float(value)

    def constants(self, method: Method) -> dict[str, Any]:
        """The parameters that the study file holds at a value, of those that the method reads unsearched."""
        held = _held(method)
        return {n: v for n, v in self._given.items() if n in held and not isinstance(v, list | tuple)}


def _held(method: Method) -> set[str]:
    """The parameters of a method that are not searched."""
    return set(method.accepts) - {parameter.name for parameter in method.parameters}


def _require_setting(parameter: Parameter, value: object) -> None:
    """Raises unless the value is a range, or a number, that the parameter can take."""
    given = list(value) if isinstance(value, list | tuple) else [value, value]
    numbers = [n for n in given if isinstance(n, int | float) and math.isfinite(n)]
    problem = None
    if not len(numbers) == len(given) == 2 or isinstance(value, bool):
        problem = "give a range [low, high], or one number to hold"
    elif isinstance(value, list | tuple) and numbers[0] >= numbers[1]:
        problem = f"the lower bound {numbers[0]} is not below the upper bound {numbers[1]}"
    elif parameter.gene == "density" and not 0 < numbers[0] <= numbers[1] <= 1:
        problem = "a density is a share of the entries: above 0 and at most 1"
    elif parameter.log and numbers[0] <= 0:
        problem = "it is searched by orders of magnitude: above 0"
    elif parameter.ceiling and not parameter.low <= numbers[0] <= numbers[1] <= parameter.high:
        problem = f"it is a share of what the density allows: {parameter.low} to {parameter.high}"
    if problem:
        raise _BadKey(parameter.gene, problem)


class SpacePlan(_Section):
    """What may vary. One kind of space for now."""

    weights: WeightsPlan


class ObjectivePlan(_Section):
    """One task's metric, with a direction; or a Python ``function`` over the live model, ``module:name``.

    ``bound`` is a value that recipes must reach (a floor, or a ceiling where it is minimised); ``within``
    says it as a share of the best parent's own value: 0.03 for at most 3% worse.
    """

    task: str = ""
    metric: str = ""
    function: str | None = None
    maximize: bool = True
    bound: FiniteFloat | None = None
    within: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _task_or_function(self) -> Self:
        if self.function is None and not (self.task and self.metric):
            raise ValueError("give a 'task' and a 'metric', or a 'function'")
        if self.function is not None and (self.task or self.metric or self.function.count(":") != 1):
            raise ValueError("a function is written module:name, and has no task and no metric")
        return self

    @property
    def asks(self) -> tuple[str, str]:
        """What is asked, as (task, metric)."""
        return (FUNCTION + self.function, VALUE) if self.function else (self.task, self.metric)

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if self.bound is not None and self.within is not None:
            raise ValueError("give one of 'bound' and 'within'")
        return self


class ScalarizePlan(_Section):
    """How several objectives become the one number that a sampler maximises (see pareto.py).

    ``ideal`` is chebyshev's point to strive for, by objective; unstated, 1 where the objective is maximised
    and 0 where it is minimised.
    """

    kind: Literal["weighted_sum", "chebyshev"] = "weighted_sum"
    weights: tuple[FiniteFloat, ...]
    ideal: tuple[FiniteFloat, ...] | None = None


SamplerName = Literal[
    "auto", "nsga2", "nsga3", "tpe", "gp", "cmaes", "sep_cmaes", "pycma", "catcmawm", "random"
]


class SearchPlan(_Section):
    """The sampler and the budget. ``trials`` counts scored recipes, and is a total over all runs.

    ``scalarize`` may be a plain list: the weights of a sum. A run pauses once ``max_failure_rate`` of its
    last 20 candidates have failed.
    """

    sampler: SamplerName = "auto"
    population: int = Field(default=10, ge=2)
    trials: int = Field(default=200, ge=1)
    seed: int = Field(default=0, ge=0)
    scalarize: ScalarizePlan | None = None
    max_failure_rate: float = Field(default=0.5, gt=0, le=1)

    @field_validator("scalarize", mode="before")
    @classmethod
    def _weights_alone(cls, value: Any) -> Any:
        return {"weights": value} if isinstance(value, list | tuple) else value


class EnginePlan(_Section):
    """Where candidates live and are scored.

    ``options`` are vLLM's own engine arguments, passed on as they are. A candidate that takes longer than
    ``timeout`` seconds to load and score has failed.
    """

    kind: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    chat_template: bool = False
    timeout: int = Field(default=3600, ge=1)
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _options_of_vllm(self) -> Self:
        if self.options and self.kind != "vllm":
            raise ValueError(f"options are vLLM's: the {self.kind} engine has none")
        for name in self.options:
            if name in _SET_BY_US:
                raise ValueError(f"options: '{name}' follows from the rest of the study file; leave it out")
        return self


class TokenRowPlan(_Section):
    """Where a token's row comes from: ``zero``, or a parent's (``model``) row of another token."""

    kind: Literal["parent", "zero", "model_token"]
    model: str | None = None
    token: str | None = None
    token_id: int | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _parent_alone(cls, value: Any) -> Any:
        return {"kind": "parent", "model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "zero") != (self.model is None):
            raise ValueError("name a parent as 'model', unless the kind is zero")
        given = [key for key in (self.token, self.token_id) if key is not None]
        if len(given) != (self.kind == "model_token"):
            raise ValueError("a model_token has exactly one of 'token' and 'token_id', others have none")
        return self


class TokenPlan(_Section):
    """One token's embedding for the parents that lack it; with ``force`` for all of them."""

    source: TokenRowPlan
    force: bool = False


class TokenizerPlan(_Section):
    """Every recipe's vocabulary, where the parents' differ: mergekit's ``tokenizer``, ``chat_template``."""

    source: Literal["union", "base"] = "union"
    tokens: dict[str, TokenPlan] = {}
    pad_to_multiple_of: int | None = Field(default=None, ge=1)
    chat_template: str | None = None

    @field_validator("chat_template")
    @classmethod
    def _known_template(cls, template: str | None) -> str | None:
        if (
            template is not None
            and template not in _TEMPLATES
            and not ("{" in template and len(template) >= 20)
        ):
            raise ValueError(f"neither a Jinja text nor a known template: {nearest(template, _TEMPLATES)}")
        return template


class Plan(_Section):
    """A study file. ``folder`` is where its relative paths start: the folder of the file itself."""

    # It names a file by default, and is part of URLs.
    name: str = Field(min_length=1, max_length=200, pattern=r"^[^/\\?#%]+$")
    parents: dict[str, str] = Field(min_length=2)
    base: str | None = None
    space: SpacePlan
    objectives: tuple[ObjectivePlan, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = ()
    search: SearchPlan = SearchPlan()
    engine: EnginePlan = EnginePlan()
    tokenizer: TokenizerPlan | None = None
    storage: str = ""
    folder: Path = Path()

    @field_validator("parents")
    @classmethod
    def _plain_names(cls, parents: dict[str, str]) -> dict[str, str]:
        for name in parents:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"parent name '{name}': use letters, digits, '-' and '_'")
        return parents

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.base is not None and self.base not in self.parents:
            raise ValueError(
                f"base '{self.base}' is not among the parents: {nearest(self.base, self.parents)}"
            )
        needy = [m for m in self.space.weights.methods if METHODS[m].base == "required"]
        if needy and self.base is None and self.space.weights.base == "fixed":
            raise ValueError(f"method '{needy[0]}' needs a base model: add 'base:', or drop the method")
        if self.held_out and len(self.held_out) != len(self.objectives):
            raise ValueError(
                f"held_out has {len(self.held_out)} tasks for {len(self.objectives)} objectives: "
                "give one for each, in the same order"
            )
        names = [objective.name for objective in self.goals]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two objectives are both called '{twice[0]}'")
        self._require_scalarization(len(names))
        return self

    def _require_scalarization(self, objectives: int) -> None:
        scalarize = self.search.scalarize
        for what in ("weights", "ideal"):
            given = getattr(scalarize, what, None)
            if given is not None and len(given) != objectives:
                raise ValueError(f"search.scalarize has {len(given)} {what} for {objectives} objectives")

    @property
    def goals(self) -> tuple[Objective, ...]:
        """The objectives, their tasks located."""
        asked = ((*o.asks, o.maximize) for o in self.objectives)
        return tuple(Objective(self.locate(task), metric, maximize) for task, metric, maximize in asked)

    @property
    def held_out_goals(self) -> tuple[Objective, ...]:
        """The objectives' metrics on the held-out tasks, in the objectives' order; may be empty."""
        pairs = zip(self.held_out, self.objectives, strict=False)
        return tuple(Objective(self.locate(task), o.asks[1], o.maximize) for task, o in pairs)

    @property
    def storage_url(self) -> str:
        """The database's URL; a relative SQLite file lies beside the study file."""
        url = self.storage or f"sqlite:///{self.name}.db"
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            url = prefix + str((self.folder / url.removeprefix(prefix)).absolute())
        if url.startswith(prefix) and "?" in url:
            raise PlanError(f"a database URL cannot hold the '?' in {url}; rename the folder or set storage")
        return url

    def locate(self, task: str) -> str:
        """A task's absolute path if it is a file, a zoo task or a function in one, else its name as it is."""
        from .zoo import resolve

        if task.startswith(FUNCTION):
            module, _, name = task.removeprefix(FUNCTION).rpartition(":")
            file = self.folder / (module.replace(".", "/") + ".py")
            return f"{FUNCTION}{file.absolute()}:{name}" if file.is_file() else task
        if (known := resolve(task)) is not None:
            return str(known)
        return str((self.folder / task).absolute()) if task.endswith((".yaml", ".yml")) else task


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Reads a study file; ``overrides`` are ``dotted.key=value`` texts that replace or add values.

    Raises PlanError, naming the key and the nearest known one, for anything that is not a plan.
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
    return read_plan(raw, path.parent.absolute(), str(path))


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
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise PlanError(f"--set {override}: '{part}' is not a section of the study file")
    try:
        section[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise PlanError(f"--set {override}: the value is not YAML") from error


def _explain(error: ValidationError) -> str:
    """The first problem, in one line, with the place and a hint."""
    problem = error.errors()[0]
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        known = _fields_at(place[:-1])
        return f"unknown key '{'.'.join(place)}': {nearest(place[-1], known)}"
    message = problem["msg"].removeprefix("Value error, ")
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, _BadKey):
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
    return [name for name in section.model_fields if name != "folder"]

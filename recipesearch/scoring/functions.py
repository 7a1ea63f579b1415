"""Objectives that are not lm-eval tasks: a Python function over the live model, and measures of the merge."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import PlanError, RecipeSearchError, TrialFailed, WorkerLost
from ..score import FUNCTION, MODEL, VALUE, Measurement, TaskScore

if TYPE_CHECKING:
    from lm_eval.api.model import LM

Function = Callable[["LM"], "float | Sequence[float]"]


@dataclass(frozen=True)
class LoadedFunction:
    """A function that scores a live model, and the hash of the file that defines the function.

    The function gets lm-eval's LM (``generate_until``, ``loglikelihood``, ``apply_chat_template``...) and
    returns one number, or one number for each of its items.
    """

    spec: str
    function: Function
    hash: str
    metrics: tuple[str, ...] = (VALUE,)
    items: int = 0

    def measure(self, lm: LM) -> TaskScore:
        """The live model's score.

        Raises WorkerLost if the function raises, and TrialFailed if it returns no finite number.
        """
        name = self.spec.rpartition(":")[2]
        try:
            given = self.function(lm)
            values = [float(v) for v in given] if isinstance(given, Sequence) else [float(given)]
        except RecipeSearchError:
            raise
        except Exception as error:  # perhaps of the model, whose state is now unknown
            raise WorkerLost(f"objective '{name}' raised {type(error).__name__}: {error}") from error
        if not values or not all(math.isfinite(value) for value in values):
            raise TrialFailed(f"non-finite: objective '{name}' returned {given!r}")
        if len(values) == 1:
            return TaskScore(self.hash, {VALUE: Measurement(values[0], None)}, {})
        items = {f"{place:06d}": {VALUE: value} for place, value in enumerate(values)}
        stderr = stdev(values) / math.sqrt(len(values))
        return TaskScore(self.hash, {VALUE: Measurement(fmean(values), stderr, len(values))}, items)


@dataclass(frozen=True)
class LoadedModel:
    """The task ``model``: measures of the merge itself (merging/measure.py)."""

    spec: str = MODEL
    hash: str = "model/1"
    metrics: tuple[str, ...] = ("parameters", "weight_norm")
    items: int = 0

    def measure(self, measured: Mapping[str, float]) -> TaskScore:
        """The score of the measured values."""
        return TaskScore(self.hash, {name: Measurement(measured[name], None) for name in self.metrics}, {})


def load_function(spec: str) -> LoadedFunction:
    """The function of ``python:module:function``. The module may be the path of a .py file.

    Raises PlanError if the module cannot be imported or has no such function.
    """
    place, _, name = spec.removeprefix(FUNCTION).rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # the module's own code may raise anything
        raise PlanError(
            f"objective '{name}': {place} cannot be imported ({error}); check the module or its path"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise PlanError(f"objective '{name}': {place} has no function of that name")
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError) as error:  # a compiled module's behaviour could change without a trace
        raise PlanError(
            f"objective '{name}': {place} has no source file; wrap the function in a .py file"
        ) from error
    return LoadedFunction(spec, function, hashlib.sha256(f"{name}\n{source}".encode()).hexdigest()[:32])


def _from_file(path: Path) -> ModuleType:
    name = f"objective_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for modules in the same folder
    spec.loader.exec_module(module)
    return module

"""Search for model-merge recipes: mergekit recipes evolved with Optuna, scored live, rebuilt exactly.

    import recipesearch as rs

    study = rs.load("study.yaml", {"search.trials": 50})   # or a dict with the same keys
    rs.check(study)                                        # what the study needs, or the first error
    view = rs.run(study)                                   # creates or resumes
    view.front(), view.frame(), view.figures()             # rows, a pandas DataFrame, plotly figures
    recipe = rs.export(view, "winner")                     # mergekit YAML and a model card
    rs.verify(recipe)                                      # stock mergekit rebuilds the same tensors

The functions are imported at first use; see docs/python.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "StudyView",
    "check",
    "errors",
    "export",
    "load",
    "merge",
    "mutate",
    "open",
    "run",
    "verify",
]

if TYPE_CHECKING:
    from . import errors
    from .api import StudyView, check, export, load, merge, mutate, open, run, verify


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'recipesearch' has no attribute {name!r}")
    return import_module(".errors", __name__) if name == "errors" else getattr(_api(), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _api() -> Any:
    return import_module(".api", __name__)

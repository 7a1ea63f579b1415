"""A found recipe as a folder to publish: mergekit YAML with its provenance, and a model card."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..checking.preflight import Preflight
from ..errors import StudyError
from ..files import write_text
from ..plan import Plan
from ..recipe import Parent, Recipe
from ..recipe.mergekit_yaml import to_yaml
from ..study.results import Results, Row, conditions_of
from ..zoo import resolve
from .bundle import (
    RECIPE_FILE,
    all_parents,
    begin,
    beside,
    stock_reads,
    with_tokenizer_beside,
    write_ancestors,
    write_script,
)
from .card import model_card


def export(checked: Preflight, results: Results, row: Row, folder: Path, *, portable: bool = False) -> Path:
    """Writes ``recipe.yaml`` and ``README.md`` for one scored trial, and returns the recipe's path.

    The YAML names the parents by absolute folders or hub revisions, so that stock ``mergekit-yaml``
    rebuilds the model from any folder of this machine. With ``portable`` it names them as in the study file,
    for recipesearch to resolve. Parents that are recipes are written beside it (see bundle.py). Raises
    StudyError if the trial has no score, if the folder cannot be written, or if it has foreign files with
    names of an export.
    """
    if row.values is None or row.recipe is None:
        raise StudyError(f"trial {row.number} has no score ({row.cause or row.state}); export another trial")
    recipe = checked.recipe_of(row.number, row.genome, row.recipe)
    references = _references(checked, recipe, folder, portable)
    conditions, refer = conditions_of(results.identity), references.__getitem__
    provenance = _provenance(checked, results, row)
    target = folder / RECIPE_FILE
    try:
        begin(folder)
        written = with_tokenizer_beside(recipe, folder, portable=portable)
        write_ancestors(recipe, folder, refer, portable=portable)
        text = to_yaml(written, refer, provenance)
        stock = stock_reads(references.values())
        script = stock and write_script(recipe, folder, refer, conditions)
        write_text(folder / "README.md", model_card(checked, results, row, text, stock=stock, script=script))
        write_text(target, text)  # last: if the recipe exists, the export is complete
    except OSError as error:
        raise StudyError(f"cannot write {folder}: {error.strerror or error}; free some space") from error
    return target


def _references(checked: Preflight, recipe: Recipe, folder: Path, portable: bool) -> dict[Parent, str]:
    """The references to the parents of a recipe and of its ancestors."""
    written = checked.parents.references()
    references: dict[Parent, str] = {}
    for parent in all_parents(recipe):
        model = replace(parent, adapter=None).reference
        if portable and parent in written:
            model = _portable(written[parent].partition("+")[0], checked.plan.folder, folder)
        references[parent] = beside(parent, model)
    return references


def _portable(reference: str, study: Path, folder: Path) -> str:
    """The study file's reference; a relative path is made relative to the exported recipe's folder."""
    if (study / reference).exists() and not Path(reference).is_absolute():
        return os.path.relpath(study / reference, folder.absolute())
    return reference


def _provenance(checked: Preflight, results: Results, row: Row) -> dict[str, Any]:
    """The data needed to rebuild the model and score it again."""
    plan, conditions = checked.plan, conditions_of(results.identity)
    return {
        "study": plan.name,
        "trial": row.number,
        "engine": conditions.kind,
        **({"options": dict(conditions.options)} if conditions.options else {}),
        "device": conditions.device,
        "threads": conditions.threads,
        "chat_template": conditions.chat_template,
        "batch_size": conditions.batch_size,
        "versions": f"recipesearch {__version__}/{conditions.versions}",
        "parents": {
            name: {"reference": plan.parents[name], **_origin(checked, name), "digest": parent.digest}
            for name, parent in checked.pool.parents.items()
        },
        "scores": _scores(plan, results, row),
    }


def _origin(checked: Preflight, name: str) -> dict[str, Any]:
    """The study and trial of a parent that an earlier era has found; empty for other parents."""
    member = checked.parents.by_name[name].member
    return {"study": member.study, "trial": member.trial} if member else {}


def _scores(plan: Plan, results: Results, row: Row) -> dict[str, Any]:
    scores = {}
    for index, goal in enumerate(results.goals):
        assert row.values is not None
        entry = {
            "task": _task_reference(plan, plan.objectives[index].asks[0]),
            "task_hash": goal.hash,
            "metric": goal.metric,
            "value": row.values[index].value,
            "stderr": row.values[index].stderr,
        }
        if plan.search.items is not None and row.values[index].items is not None:
            entry["items"] = row.values[index].items  # the score may cover a part of the task
        if row.held_out is not None:
            entry["held_out"] = row.held_out[index].value
            entry["held_out_stderr"] = row.held_out[index].stderr
        scores[goal.name] = entry
    return scores


def _task_reference(plan: Plan, task: str) -> str:
    """A task's reference on this machine: its zoo or registered name, otherwise its absolute path."""
    return task if resolve(task) else plan.locate(task)

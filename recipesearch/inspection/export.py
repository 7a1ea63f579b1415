"""A found recipe as a folder to publish: mergekit YAML with its provenance, and a model card."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import RefusedInput, StudyError
from ..files import write_text
from ..merging.tokenizers import copy_tokenizer
from ..plan import Plan
from ..preflight import Preflight
from ..recipe import Parent, Recipe, TokenizerFolder
from ..recipe_yaml import to_yaml
from ..study.results import Results, Row, conditions_of
from .card import model_card

RECIPE_FILE = "recipe.yaml"
TOKENIZER_FOLDER = "tokenizer"


def export(checked: Preflight, results: Results, row: Row, folder: Path, *, portable: bool = False) -> Path:
    """Writes ``recipe.yaml`` and ``README.md`` for one scored trial, and returns the recipe's path.

    The YAML names the parents by absolute folders or hub revisions, so that stock ``mergekit-yaml``
    rebuilds the model anywhere on this machine; ``portable`` names them as the study file does, for
    recipesearch to resolve. A parent that is itself a recipe is written beside it. Raises StudyError if
    the trial has no score or the folder cannot be written.
    """
    if row.values is None or row.recipe is None:
        raise StudyError(f"trial {row.number} has no score ({row.cause or row.state}); export another one")
    recipe = checked.space.express(row.genome)
    if recipe.digest != row.recipe:
        raise RefusedInput(
            f"trial {row.number} was scored with other parents: one has changed since; restore it, "
            "or search again under a new name"
        )
    references = _references(checked, recipe, folder, portable)
    provenance = _provenance(checked.plan, checked.pool.parents, results, row)
    target = folder / RECIPE_FILE
    try:
        written = _with_tokenizer_beside(recipe, folder, portable)
        text = to_yaml(written, lambda parent: references[parent], provenance)
        write_text(target, text)
        write_text(
            folder / "README.md",
            model_card(checked, results, row, text, stock=_stock_reads(references.values())),
        )
    except OSError as error:
        raise StudyError(f"cannot write {folder}: {error.strerror or error}; free some space") from error
    return target


def _references(checked: Preflight, recipe: Recipe, folder: Path, portable: bool) -> dict[Parent, str]:
    written = {
        checked.pool.parents[name]: _portable(text, checked.plan.folder, folder)
        for name, text in checked.plan.parents.items()
    }
    references: dict[Parent, str] = {}
    for parent in recipe.parents():
        if isinstance(parent.source, Recipe):
            references[parent] = _write_ancestor(parent, parent.source, folder)
        else:
            references[parent] = written[parent] if portable else parent.reference
    return references


def _with_tokenizer_beside(recipe: Recipe, folder: Path, portable: bool) -> Recipe:
    """The recipe, the tokenizer that it names copied beside it; ``portable`` names it from there."""
    if recipe.tokenizer is None or not isinstance(recipe.tokenizer.source, TokenizerFolder):
        return recipe
    source = copy_tokenizer(recipe.tokenizer.source, folder / TOKENIZER_FOLDER)
    source = replace(source, path=TOKENIZER_FOLDER) if portable else source
    return replace(recipe, tokenizer=replace(recipe.tokenizer, source=source))


def _portable(reference: str, study: Path, folder: Path) -> str:
    """A reference as the study file has it; a relative path starts at the exported recipe instead."""
    if (study / reference).exists() and not Path(reference).is_absolute():
        return os.path.relpath(study / reference, folder.absolute())
    return reference


def _write_ancestor(parent: Parent, recipe: Recipe, folder: Path) -> str:
    """A recipe parent as a file of its own, named by its digest; it is merged first."""
    name = f"parent-{parent.digest[:12]}.yaml"
    references = {
        p: _write_ancestor(p, p.source, folder) if isinstance(p.source, Recipe) else p.reference
        for p in recipe.parents()
    }
    write_text(folder / name, to_yaml(recipe, lambda p: references[p], {}))
    return name + (f"+{parent.adapter}" if parent.adapter else "")


def _provenance(plan: Plan, parents: Mapping[str, Parent], results: Results, row: Row) -> dict[str, Any]:
    """What it takes to rebuild the model and to score it again."""
    conditions = conditions_of(results.identity)
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
            name: {"reference": plan.parents[name], "digest": p.digest} for name, p in parents.items()
        },
        "scores": _scores(plan, results, row),
    }


def _scores(plan: Plan, results: Results, row: Row) -> dict[str, Any]:
    scores = {}
    for index, objective in enumerate(results.identity["objectives"]):
        assert row.values is not None
        entry = {
            "task": _task_reference(plan, plan.objectives[index].asks[0]),
            "task_hash": objective["task"],
            "metric": objective["metric"],
            "value": row.values[index].value,
            "stderr": row.values[index].stderr,
        }
        if row.held_out is not None:
            entry["held_out"] = row.held_out[index].value
            entry["held_out_stderr"] = row.held_out[index].stderr
        scores[objective["name"]] = entry
    return scores


def _stock_reads(references: Iterable[str]) -> bool:
    """Whether stock mergekit resolves the references by itself: folders and hub ids, without adapters."""
    return not any(r.startswith("zoo") or r.endswith((".yaml", ".yml")) or "+" in r for r in references)


def _task_reference(plan: Plan, task: str) -> str:
    """A task as anybody on this machine finds it: its zoo or registered name, else its absolute path."""
    return task if task.startswith("zoo") else plan.locate(task)

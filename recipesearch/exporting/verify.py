"""The proof of an export: stock mergekit rebuilds the same tensors, and the model has the same scores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import VerificationFailed
from ..files import write_text
from ..parents.identify import SCRIPT, identify, is_hub_id, read_recipe
from ..plan import EnginePlan
from ..recipe import Parent, Recipe, Slice, Source
from ..recipe.mergekit_yaml import references, to_yaml
from .bundle import stock_reads

_CONDITIONS = ("options", "device", "threads", "batch_size")


@dataclass(frozen=True)
class Proof:
    """The stock command, the number of equal tensors, and the scores of the rebuilt model.

    ``scores`` is empty for a recipe without provenance.
    """

    command: str
    tensors: int
    scores: Mapping[str, float]


def verify(path: Path) -> Proof:
    """Rebuilds a recipe with stock ``mergekit-yaml`` in a fresh process and compares it with ours.

    Every tensor must be equal to the bit. The rebuilt model, loaded from its folder, must have exactly the
    scores that the recipe claims on its search tasks. Raises VerificationFailed with the first difference, or
    if a parent or a task has changed since.
    """
    recipe, provenance = read_recipe(path)
    _require_same_content(recipe, provenance)

    import torch

    from ..engines.opening import choose_device
    from ..merging import stock
    from ..merging.materialize import settled

    device = choose_device(provenance.get("device", "cpu"))
    threads = int(provenance.get("threads", torch.get_num_threads()))
    torch.set_num_threads(threads)
    recipe = settled(recipe)
    with tempfile.TemporaryDirectory(prefix="recipesearch-verify-") as scratch:
        rebuilt = _rebuild(recipe, Path(scratch), threads, device)
        scores = _rescore(rebuilt.folder, recipe, provenance)
    if (path.parent / SCRIPT).exists():
        rebuilt.words = ["sh", SCRIPT]  # in the recipe's folder
    elif _stock_reads_anywhere(references(path.read_text("utf-8"))):
        rebuilt.words = _command(path, Path("OUTPUT"), Path("OUTPUT-adapted"), recipe, threads, device)
    return Proof(stock.printed(rebuilt.words), rebuilt.tensors, scores)


@dataclass
class _Rebuilt:
    """A model built by stock mergekit: folder, command, and number of tensors including its ancestors'."""

    folder: Path
    words: list[str]
    tensors: int


def _rebuild(recipe: Recipe, scratch: Path, threads: int, device: str) -> _Rebuilt:
    """Rebuilds a recipe and its ancestors with stock mergekit only, and compares each model's tensors."""
    from ..merging import stock
    from ..merging.materialize import directories, merger
    from .stub import with_stub

    local, target = scratch / f"{recipe.digest}.yaml", scratch / recipe.digest
    if target.exists():  # rebuilt before, as another recipe's ancestor
        return _Rebuilt(target, [], 0)
    steps = {
        parent: _rebuild(parent.source, scratch, threads, "cpu")
        for parent in recipe.parents()
        if isinstance(parent.source, Recipe)
    }
    folders = {parent: step.folder for parent, step in steps.items()}
    folders |= directories(replace(p, adapter=None) for p in recipe.parents() if p not in steps)
    stubbed = with_stub(recipe, scratch / f"{recipe.digest}.config")
    given = stubbed or recipe
    write_text(local, to_yaml(given, lambda parent: _reference(parent, folders), {}))
    words = _command(local, target, scratch / "adapted", recipe, threads, device)
    stock.run(words)
    tensors = stock.require_equal(merger(recipe.parents(), device).stream(recipe), target)
    return _Rebuilt(target, words, tensors + sum(step.tensors for step in steps.values()))


def _command(file: Path, output: Path, adapted: Path, recipe: Recipe, threads: int, device: str) -> list[str]:
    """The stock command for a recipe's file; mergekit merges parents with adapters in ``adapted``."""
    from ..merging import stock

    words = stock.command(file, output, recipe.seed, threads, device)
    return words + (stock.adapting(adapted) if any(p.adapter for p in recipe.parents()) else [])


def _reference(parent: Parent, folders: Mapping[Parent, Path]) -> str:
    """A parent's reference for stock mergekit: its folder, and its adapter if it has one."""
    folder = folders.get(parent)
    return str(parent.source if folder is None else folder) + (f"+{parent.adapter}" if parent.adapter else "")


def _stock_reads_anywhere(given: Iterable[str]) -> bool:
    """Whether stock mergekit can resolve all models from any folder: by absolute path or hub id."""
    parts = {part for reference in given for part in reference.split("+")}
    return stock_reads(given) and all(Path(p).is_absolute() or is_hub_id(p.partition("@")[0]) for p in parts)


def _require_same_content(recipe: Recipe, provenance: Mapping[str, Any]) -> None:
    if provenance.get("digest", recipe.digest) != recipe.digest:
        raise VerificationFailed(
            "this recipe is not the one that was scored: the recipe or a parent has changed; export it again"
        )


def _rescore(rebuilt: Path, recipe: Recipe, provenance: Mapping[str, Any]) -> dict[str, float]:
    """The rebuilt model's score in each objective of the provenance. Raises VerificationFailed."""
    claims: Mapping[str, Mapping[str, Any]] = provenance.get("scores", {})
    if not claims:
        return {}
    from ..engines.opening import open_engine
    from ..merging.materialize import merger
    from ..merging.measure import measure
    from ..scoring.scorer import Scorer
    from ..scoring.tasks import load_tasks
    from ..zoo import resolve

    tasks = load_tasks([str(resolve(claim["task"]) or claim["task"]) for claim in claims.values()])
    for task, claim in zip(tasks, claims.values(), strict=True):
        if task.hash != claim["task_hash"]:
            raise VerificationFailed(f"task '{claim['task']}' has changed since the scores; restore it")
    stated = {key: provenance[key] for key in _CONDITIONS if key in provenance}
    kind = provenance.get("engine", "transformers")
    plan = EnginePlan.model_validate({"kind": kind, "dtype": recipe.dtype, **stated})
    model = identify(str(rebuilt), rebuilt)
    with closing(open_engine(plan, (), model)) as engine:
        unique = list({task.hash: task for task in tasks}.values())
        stops = {claim["task_hash"]: int(claim["items"]) for claim in claims.values() if "items" in claim}
        scorer = Scorer(unique, engine.lm, bool(provenance.get("chat_template", False)), stops)
        part = (0, max(stops.values())) if stops else None
        alone = Recipe("passthrough", (Slice((Source(model),)),), model)
        given = scorer.score(engine.lm, lambda: measure(merger([model], engine.device).stream(alone)), part)
    measured = {score.task_hash: score.metrics for score in given}
    scores = {}
    for name, claim in claims.items():
        scores[name] = measured[claim["task_hash"]][claim["metric"]].value
        if scores[name] != claim["value"]:
            raise VerificationFailed(
                f"{name} is {scores[name]} on the rebuilt model, but {claim['value']} in the recipe"
            )
    return scores

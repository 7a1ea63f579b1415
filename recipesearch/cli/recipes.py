"""export, merge, verify: from a found recipe to a model, and the proof that it is the one."""

from __future__ import annotations

from pathlib import Path

from ..errors import PlanError
from ..plan import Plan
from ..study.results import Results, Row
from .output import line, note, print_json
from .viewing import open_study


def export(
    study: str,
    folder: Path,
    *,
    trial: int | None = None,
    best: str | None = None,
    knee: bool = False,
    front: bool = False,
    portable: bool = False,
) -> None:
    """Exports the chosen trial (the knee by default) or the whole front; prints each recipe's path."""
    if sum((trial is not None, best is not None, knee, front)) > 1:
        raise PlanError("choose one of --trial, --best, --knee and --front")
    plan, results = open_study(study)
    if not front:
        export_row(plan, results, _choose(results, trial, best), folder, portable=portable)
        return
    results.require_scores()
    for row in results.front:
        export_row(plan, results, row, folder / f"trial-{row.number}", portable=portable)


def export_row(plan: Plan, results: Results, row: Row, folder: Path, *, portable: bool = False) -> Path:
    """Exports one trial, prints the recipe's path and returns it."""
    from ..check.members import open_preflight
    from ..export.export import export as write

    written = write(open_preflight(plan), results, row, folder, portable=portable)
    line(written)
    return written


def _choose(results: Results, trial: int | None, best: str | None) -> Row:
    if trial is not None:
        return results.row(trial)
    return results.best(best) if best is not None else results.knee()


def merge(recipe_file: Path, target: Path) -> None:
    """Builds the recipe's model folder."""
    from ..parents.identify import read_recipe

    recipe, provenance = read_recipe(recipe_file)
    import torch

    from ..engines.opening import choose_device
    from ..merging.materialize import write_recipe

    device = choose_device(str(provenance.get("device", "cpu")))
    if threads := provenance.get("threads"):
        torch.set_num_threads(int(threads))
    write_recipe(recipe, target.absolute(), device)
    line(target)


def verify(recipe_file: Path, as_json: bool) -> None:
    """Proves the recipe and prints what was compared."""
    from ..export.verify import verify as prove

    proof = prove(recipe_file)
    if as_json:
        print_json({"command": proof.command, "tensors": proof.tensors, "scores": dict(proof.scores)})
        return
    line(proof.command)
    line(f"verified: all {proof.tensors} tensors are identical to stock mergekit's")
    if proof.scores:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in proof.scores.items())
        line(f"verified: the rebuilt model scores the same: {scores}")
    else:
        note("the recipe claims no scores, so none were compared")

"""export, merge, verify: from a found recipe to a model, and the proof that it is the one."""

from __future__ import annotations

from pathlib import Path

from ..errors import PlanError
from ..study.results import Results, Row
from .output import note, out, print_json
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
) -> Path:
    """Exports the chosen trial (the knee by default) or the whole front; prints each recipe's path."""
    if sum((trial is not None, best is not None, knee, front)) > 1:
        raise PlanError("choose one of --trial, --best, --knee and --front")
    from ..inspection.export import export as write
    from ..preflight import preflight

    plan, results = open_study(study)
    checked = preflight(plan)
    if front:
        for row in results.front:
            written = write(checked, results, row, folder / f"trial-{row.number}", portable=portable)
            out.print(str(written), soft_wrap=True, highlight=False)
        return folder
    written = write(checked, results, _choose(results, trial, best), folder, portable=portable)
    out.print(str(written), soft_wrap=True, highlight=False)
    return written


def _choose(results: Results, trial: int | None, best: str | None) -> Row:
    if trial is not None:
        return results.row(trial)
    return results.best(best) if best is not None else results.knee()


def merge(recipe_file: Path, target: Path) -> None:
    """Builds the recipe's model folder."""
    from ..verify import read_recipe

    recipe, provenance = read_recipe(recipe_file)
    import torch

    from ..merging.materialize import write_recipe

    if threads := provenance.get("threads"):
        torch.set_num_threads(int(threads))
    write_recipe(recipe, target.absolute(), str(provenance.get("device", "cpu")))
    out.print(str(target), soft_wrap=True, highlight=False)


def verify(recipe_file: Path, as_json: bool) -> None:
    """Proves the recipe and prints what was compared."""
    from ..verify import verify as prove

    proof = prove(recipe_file)
    if as_json:
        print_json({"command": proof.command, "tensors": proof.tensors, "scores": dict(proof.scores)})
        return
    out.print(proof.command, soft_wrap=True, highlight=False)
    out.print(f"verified: all {proof.tensors} tensors are identical to stock mergekit's", highlight=False)
    if proof.scores:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in proof.scores.items())
        out.print(f"verified: the rebuilt model scores the same: {scores}", highlight=False)
    else:
        note("the recipe claims no scores, so none were compared")

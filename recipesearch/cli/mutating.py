"""mutate: fine-tunes one trial's model into a parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from .app import AsJson, StudyName, app
from .output import line, out, print_json


@app.command()
def mutate(
    study: StudyName,
    trial: Annotated[int, typer.Option(help="The trial whose recipe is fine-tuned.")],
    preference: Annotated[
        list[str] | None,
        typer.Option(
            help="Task or .jsonl file of preference pairs; replaces 'preference:' from the study file."
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE,...", help="Train one mutant for each value of a setting."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of 'mutation'.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a found recipe's model, by DPO or SFT, into a new parent, and compare it with its source."""
    from .. import api
    from ..report.tables import as_table

    values = _swept(sweep) or [""]
    mutants = api.mutate_each(
        study, trial, [[*(settings or []), *filter(None, [value])] for value in values], preference or []
    )
    if as_json:
        data = [mutant.data() for mutant in mutants]
        print_json(data if sweep else data[0])
        return
    for value, one in zip(values, mutants, strict=True):
        verdict = "accepted" if one.mutant.accepted else "rejected"
        title = f"mutant of trial {trial}{value and f', {value}'}: {verdict}; {one.mutant.reason}"
        out.print(as_table(title, _rows(one.changes)))
        line(one.reference)


def _swept(sweep: str | None) -> list[str]:
    """The settings of a sweep as ``key=value``, one for each value."""
    from ..errors import PlanError, nearest
    from ..plan import TRAINING

    if sweep is None:
        return []
    key, mark, values = sweep.partition("=")
    if not mark or not values:
        raise PlanError(
            f"--sweep {sweep}: write it as key=value,value,..., for instance learning_rate=1e-5,1e-4"
        )
    if key.removeprefix("mutation.") not in TRAINING:
        raise PlanError(f"--sweep {key}: not a training setting; {nearest(key, TRAINING)}")
    return [f"{key}={value}" for value in dict.fromkeys(v.strip() for v in values.split(","))]


def _rows(changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "objective": change["name"],
            "before": f"{change['before']:.3f}",
            "after": f"{change['after']:.3f}",
            "p": "" if change["p"] is None else f"{change['p']:.2g}",
            "items": change["items"],
        }
        for change in changes
    ]

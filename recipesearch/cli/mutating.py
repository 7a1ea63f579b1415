"""mutate: one winner, fine-tuned into a parent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import PlanError, RefusedInput
from ..plan import MutationPlan, Plan, load_plans, read_section
from .output import line, note, out, print_json
from .viewing import open_study


def mutate(study: str, trial: int, settings: Sequence[str], preference: Sequence[str], as_json: bool) -> None:
    """Mutates one trial's recipe, prints what the gate found and the reference to the mutant."""
    from ..mutation.bred import keep, remove_partial
    from ..mutation.mutate import Breeder, Elite, Means
    from ..mutation.process import train_apart
    from ..study.storage import open_storage, sole_runner
    from ..workers.supervisor import Supervised

    plan, results = open_study(study)
    plan = _with_settings(study, plan, settings, preference)
    row = results.row(trial)
    from ..eras import open_preflight

    checked = open_preflight(plan)
    recipe = checked.space.express(row.genome)
    if row.values is None or recipe.digest != row.recipe:
        raise RefusedInput(
            f"trial {trial} has no score, or was scored with other parents; choose another one"
        )
    elite = Elite.of(recipe, trial, "named")
    storage = open_storage(plan.storage_url)
    breeder = Breeder(plan, Means(storage.engine, Supervised, train_apart))
    assert plan.mutation is not None
    mutation = breeder.mutation(elite, plan.mutation)
    with sole_runner(storage, plan.whole_name):
        remove_partial(plan)
        mined = None
        if not breeder.is_trained(mutation):
            note(f"mining preference pairs from trial {trial}")
            with Supervised(plan, checked.pool.parents) as worker:
                mined = breeder.mine(mutation, worker)
        note("training and judging")
        (bred,) = breeder.breed([(mutation, mined)])
    reference = keep(plan, bred.parent, {"study": plan.name, "trial": trial})
    if as_json:
        print_json({"reference": reference, "accepted": bred.mutant.accepted, **_told(bred.mutant.record)})
        return
    from ..inspection.tables import as_table

    verdict = "let in" if bred.mutant.accepted else "turned away"
    out.print(
        as_table(f"mutant of trial {trial}: {verdict}; {bred.mutant.reason}", _rows(bred.mutant.record))
    )
    line(reference)


def _with_settings(study: str, plan: Plan, settings: Sequence[str], preference: Sequence[str]) -> Plan:
    """The plan with ``mutation`` and ``preference`` as the study file has them now, or the command line."""
    import yaml

    place = study.rpartition("#")[0] or study
    stated = load_plans(Path(place))[0] if Path(place).suffix in (".yaml", ".yml") else plan
    keys: dict[str, Any] = (stated.mutation or MutationPlan()).model_dump()
    for setting in settings:
        key, mark, value = setting.removeprefix("mutation.").partition("=")
        if not mark:
            raise PlanError(f"--set {setting}: write it as key=value, for instance mutation.steps=100")
        try:
            keys[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise PlanError(f"--set {setting}: the value is not YAML") from error
    return plan.model_copy(
        update={
            "mutation": read_section(MutationPlan, keys, "mutation"),
            # A file is meant from where the command is given.
            "preference": tuple(str(Path(p).absolute()) if Path(p).is_file() else p for p in preference)
            or stated.preference,
        }
    )


def _told(record: Any) -> dict[str, Any]:
    return {
        key: record[key]
        for key in ("source", "pairs", "pairs_digest", "seed", "settings", "trained", "changes")
    }


def _rows(record: Any) -> list[dict[str, Any]]:
    return [
        {
            "objective": change["name"],
            "before": f"{change['before']:.3f}",
            "after": f"{change['after']:.3f}",
            "p": "" if change["p"] is None else f"{change['p']:.2g}",
            "items": change["items"],
        }
        for change in record["changes"]
    ]

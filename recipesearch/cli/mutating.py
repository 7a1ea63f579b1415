"""mutate: one winner, fine-tuned into a parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PlanError, StudyError, nearest
from ..files import remove_abandoned
from ..plan import TRAINING, MutationPlan, Plan, load_plans, read_plan
from .output import line, note, out, print_json
from .viewing import open_study

if TYPE_CHECKING:
    from ..check.preflight import Preflight
    from ..mutation.mutate import Bred, Elite
    from ..scoring.preferences import Preferences, Wanted


def mutate(
    study: str,
    trial: int,
    settings: Sequence[str],
    preference: Sequence[str],
    sweep: str | None,
    as_json: bool,
) -> None:
    """Mutates one trial's recipe, prints what the gate found and the reference to the mutant; with ``sweep``
    (KEY=VALUE,VALUE,...) once for each value."""
    from ..check.members import open_preflight
    from ..mutation.mutate import Elite

    stored, results = open_study(study)
    values = [f"{key}={value}" for key, value in _swept(sweep)]
    plans = [_with_settings(study, stored, [*settings, value], preference) for value in values]
    plans = plans or [_with_settings(study, stored, settings, preference)]
    row = results.row(trial)
    checked = open_preflight(plans[0])
    if row.values is None:
        raise StudyError(f"trial {trial} has no score ({row.cause or row.state}); mutate another one")
    recipe = checked.recipe_of(trial, row.genome, row.recipe)
    told = [_told(bred, plans[0]) for bred in _bred(plans, checked, Elite.of(recipe, trial, "named"))]
    if as_json:
        print_json(told if sweep else told[0])
        return
    from ..report.tables import as_table

    for value, one in zip(values or [""], told, strict=True):
        verdict = "let in" if one["accepted"] else "turned away"
        title = f"mutant of trial {trial}{value and f', {value}'}: {verdict}; {one['reason']}"
        out.print(as_table(title, _rows(one["changes"])))
        line(one["reference"])


def _bred(plans: Sequence[Plan], checked: Preflight, elite: Elite) -> list[Bred]:
    """The elite's mutants, one for each plan; what two of them learn from is mined once."""
    from ..mutation.mutate import Breeder, Means
    from ..mutation.training_process import train_apart
    from ..study.storage import open_storage, sole_runner
    from ..workers.supervisor import Supervised

    storage = open_storage(plans[0].storage_url)
    breeder = Breeder(plans[0], Means(storage.engine, Supervised, train_apart))
    mutations = [breeder.mutation(elite, plan.mutation) for plan in plans if plan.mutation]
    with sole_runner(storage, plans[0].whole_name):
        remove_abandoned(plans[0].bred, locked=True)
        waiting = [mutation for mutation in mutations if not breeder.is_trained(mutation)]
        mined: dict[Wanted, Preferences] = {}
        if waiting:
            note(f"mining preference pairs from trial {elite.trial}")
            with Supervised(plans[0], checked.pool.parents) as worker:
                for mutation in waiting:
                    wanted = breeder.wanted(mutation)
                    mined[wanted] = mined.get(wanted) or breeder.mine(mutation, worker)
        note("training and judging")
        return breeder.breed([(m, mined[breeder.wanted(m)] if m in waiting else None) for m in mutations])


def _swept(sweep: str | None) -> list[tuple[str, str]]:
    """The settings that a sweep tries one by one."""
    if sweep is None:
        return []
    key, mark, values = sweep.partition("=")
    if not mark or not values:
        raise PlanError(
            f"--sweep {sweep}: write it as key=value,value,..., for instance learning_rate=1e-5,1e-4"
        )
    if key.removeprefix("mutation.") not in TRAINING:
        raise PlanError(f"--sweep {key}: it makes no other mutant; {nearest(key, TRAINING)}")
    return [(key, value) for value in dict.fromkeys(v.strip() for v in values.split(","))]


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
    # A file is meant from where the command is given.
    learned = tuple(str(Path(p).absolute()) if Path(p).is_file() else p for p in preference)
    changes = {"mutation": keys, "preference": learned or stated.preference}
    return read_plan({**plan.model_dump(), **changes}, plan.folder, study)


def _told(bred: Bred, plan: Plan) -> dict[str, Any]:
    from ..mutation.bred import keep

    reference = keep(plan, bred.parent, {"study": plan.name, "trial": bred.elite.trial})
    keys = ("source", "pairs", "pairs_digest", "seed", "settings", "trained", "changes")
    verdict = {"accepted": bred.mutant.accepted, "reason": bred.mutant.reason}
    return {"reference": reference, **verdict, **{key: bred.mutant.record[key] for key in keys}}


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

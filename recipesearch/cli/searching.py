"""demo, init, check, run, zoo."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PlanError, StudyError
from ..files import write_text
from ..plan import Plan, load_plans
from .output import line, note, out, print_json, search_progress

if TYPE_CHECKING:
    from ..check.preflight import Preflight


def init(target: Path) -> None:
    """Writes the commented template; never over an existing file."""
    if target.exists():
        raise PlanError(f"{target} exists already; name another file")
    write_text(target, files("recipesearch.cli").joinpath("template.yaml").read_text("utf-8"))
    note(f"wrote {target}; edit it, then: recipesearch check {target}")


def check(path: Path, overrides: Sequence[str], as_json: bool, offline: bool) -> None:
    """Prints what a study would need, era by era; every problem is an error with its exit code."""
    plans = load_plans(path, overrides)
    if plans[0].evolves:  # what the later eras merge is not known yet; the first one's estimate is of all
        plans = plans[:1]
    needs = list(_needs_offline(plans) if offline else _needs_of_all(plans))
    if as_json:
        print_json(
            needs[0] if len(needs) == 1 else {plan.era: n for plan, n in zip(plans, needs, strict=True)}
        )
        return
    from ..report.tables import as_table

    verdict = "fits together" if offline else "ready to run"
    for plan, data in zip(plans, needs, strict=True):
        name = plan.whole_name if plan.evolves else plan.name
        out.print(as_table(f"study {name}: {verdict}", [{"": k, "value": v} for k, v in _flat(data)]))


def _needs_of_all(plans: Sequence[Plan]) -> Iterator[dict[str, Any]]:
    from ..check.members import members, stand_ins
    from ..check.preflight import preflight
    from ..study.chain import begun

    before: Preflight | None = None
    for plan in plans:
        waits = before and not begun(plan)
        before = preflight(plan, stand_ins(plan, before) if before and waits else members(plan))
        yield _needs(before)


def _needs_offline(plans: Sequence[Plan]) -> Iterator[dict[str, Any]]:
    """As above, from recorded configs; nothing is known of the number of items."""
    from ..check.estimate import estimate
    from ..check.offline import check_offline

    before: Preflight | None = None
    for plan in plans:
        before = check_offline(plan, before)
        unknown = ("items_per_recipe", "database_bytes", "vocabulary")
        yield {key: value for key, value in estimate(before, 0).items() if key not in unknown}


def _needs(checked: Preflight) -> dict[str, Any]:
    """What one era would need; loads its tasks."""
    from ..check.estimate import estimate
    from ..engines.opening import require_runnable
    from ..scoring.goals import load_all_goals, require_mutations

    plan = checked.plan
    require_runnable(plan.engine)
    if plan.mutation is not None:
        from ..search.variants import require_variants

        require_variants(plan)
    tasks, _ = load_all_goals(plan)
    require_mutations(plan)
    items = sum(task.items for task in {task.hash: task for task in tasks}.values())
    data = estimate(checked, items)
    _require_disk(plan, data["database_bytes"])
    return data


def _require_disk(plan: Plan, needed: int) -> None:
    if not plan.storage_url.startswith("sqlite"):
        return
    folder = Path(plan.storage_url.removeprefix("sqlite:///")).parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed * 1.2:
        raise StudyError(f"{folder} has {free} bytes free; the study's database may need {needed}")


def run(path: Path, overrides: Sequence[str], as_json: bool) -> None:
    """Runs a study to its total and prints the front."""
    plans = load_plans(path, overrides)
    _search(plans)
    from .viewing import open_planned, print_front

    print_front(*open_planned(plans), None, as_json)


def zoo(directory: Path | None, seed: int) -> None:
    """Trains the zoo where it is missing and prints its folder."""
    from ..zoo import build_zoo

    line(build_zoo(seed, directory, note))


def demo(folder: Path, overrides: Sequence[str]) -> None:
    """The whole loop on the zoo, ending with the proof of its export."""
    from ..zoo import build_zoo
    from .recipes import export_row, verify
    from .viewing import open_planned, print_front, print_seeds

    note("training the zoo where it is missing: three tiny models, about a minute")
    build_zoo(report=note)
    folder.mkdir(parents=True, exist_ok=True)
    study_file = folder / "demo.yaml"
    write_text(study_file, files("recipesearch.cli").joinpath("demo.yaml").read_text("utf-8"))
    plans = load_plans(study_file, overrides)
    note(f"searching: {plans[0].search.trials} recipes of {' and '.join(plans[0].parents)}, scored live")
    _search(plans)
    plan, results = open_planned(plans)
    print_seeds(results)
    print_front(plan, results, folder / "front.html", False)
    recipe = export_row(plan, results, results.knee(), folder / "winner")
    note("verifying: stock mergekit rebuilds the winner in a process of its own")
    verify(recipe, as_json=False)


def _search(plans: Sequence[Plan]) -> None:
    from ..search.evolve import evolve
    from ..search.run import run_eras

    with search_progress() as observe:
        (evolve if plans[0].evolves else run_eras)(plans, observe)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested data as lines; a key within a key is written after it."""
    for key, value in data.items():
        name = prefix + key.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        else:
            yield name, str(value)

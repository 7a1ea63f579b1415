"""demo, init, check, run, zoo."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import PlanError, StudyError
from ..files import write_text
from ..plan import Plan, load_plan
from .output import line, note, out, print_json, search_progress


def init(target: Path) -> None:
    """Writes the commented template; never over an existing file."""
    if target.exists():
        raise PlanError(f"{target} exists already; name another file")
    write_text(target, files("recipesearch.cli").joinpath("template.yaml").read_text("utf-8"))
    note(f"wrote {target}; edit it, then: recipesearch check {target}")


def check(path: Path, overrides: Sequence[str], as_json: bool) -> None:
    """Prints what a study would need; every problem is an error with its exit code."""
    plan = load_plan(path, overrides)
    from ..preflight import estimate, preflight

    checked = preflight(plan)
    from ..engines.choice import require_runnable
    from ..workers.goals import load_all_goals

    require_runnable(plan.engine)
    tasks, _ = load_all_goals(plan)
    items = sum(task.items for task in {task.hash: task for task in tasks}.values())
    data = estimate(checked, items)
    folder = Path(plan.storage_url.removeprefix("sqlite:///")).parent
    if plan.storage_url.startswith("sqlite"):
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if free < data["database_bytes"] * 1.2:
            raise StudyError(
                f"{folder} has {free} bytes free; the study's database may need {data['database_bytes']}"
            )
    if as_json:
        print_json(data)
    else:
        from ..inspection.tables import as_table

        out.print(as_table(f"study {plan.name}: ready to run", [{"": k, "value": v} for k, v in _flat(data)]))


def run(path: Path, overrides: Sequence[str], as_json: bool) -> None:
    """Runs a study to its total and prints the front."""
    plan = load_plan(path, overrides)
    _search(plan)
    from .viewing import open_planned, print_front

    print_front(*open_planned(plan), None, as_json)


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
    plan = load_plan(study_file, overrides)
    note(f"searching: {plan.search.trials} recipes of {' and '.join(plan.parents)}, scored live")
    _search(plan)
    plan, results = open_planned(plan)
    print_seeds(results)
    print_front(plan, results, folder / "front.html", False)
    recipe = export_row(plan, results, results.knee(), folder / "winner")
    note("verifying: stock mergekit rebuilds the winner in a process of its own")
    verify(recipe, as_json=False)


def _search(plan: Plan) -> None:
    from ..search import run

    with search_progress() as observe:
        run(plan, observe)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested data as lines; a key within a key is written after it."""
    for key, value in data.items():
        name = prefix + key.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        else:
            yield name, str(value)

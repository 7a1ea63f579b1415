"""The command ``check``: the needs of each era of a study file, or the first error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from ..engines.opening import require_runnable
from ..errors import StudyError
from ..plan import Plan
from ..samplers.fit import SAMPLERS
from ..scoring.goals import load_goals, load_unseen
from ..scoring.preferences import require_minable
from ..space.coordinates import CoordinateSystem
from ..space.projection import Projection
from ..space.weights import WeightSpace
from ..study import known
from ..study.blocks import LAST_TABLES
from ..study.chain import begun
from ..study.storage import Database
from .estimate import estimate
from .members import members, stand_ins
from .mutations import require_variants
from .preflight import Preflight, preflight


def needs_of_all(plans: Sequence[Plan]) -> Iterator[dict[str, Any]]:
    """Each era's needs, as returned by ``estimate``; loads the tasks.

    A loop over eras yields its first era only: the parents of later eras are not known yet, and the first
    era's estimate covers all eras. Raises PlanError, RefusedInput or StudyError for whatever would stop the
    study.
    """
    before: Preflight | None = None
    database = Database(plans[0].storage_url)
    for plan in plans[:1] if plans[0].evolves else plans:
        waits = before and not begun(database, plan)
        before = preflight(plan, stand_ins(plan, before) if before and waits else members(plan, database))
        yield _needs(before, database)


def _needs(checked: Preflight, database: Database) -> dict[str, Any]:
    plan = checked.plan
    require_runnable(plan.engine)
    require_variants(plan)
    tasks = load_goals(plan.goals)
    load_unseen(plan.held_out_goals, tasks)
    if plan.mutation is not None:
        require_minable(plan.all_preferences)
        load_goals(plan.goals_of(plan.mutation.monitor))
    items = {task.hash: min(task.items, plan.search.items or task.items) for task in tasks}
    data = estimate(checked, sum(items.values()))
    _require_disk(database, data["database_bytes"])
    if SAMPLERS[checked.choice.sampler].coordinates and not begun(database, plan):
        data["known_recipes"] = _known(checked, database, list(items))
    return data


def _known(checked: Preflight, database: Database, tasks: Sequence[str]) -> dict[str, int]:
    """The recipes in the database that a new study learns from, by the engine that scored the recipes.

    The study uses those of its own engine, which is not started here.
    """
    assert isinstance(checked.space, WeightSpace), "checked by samplers.fit"
    try:
        database.require_studies(LAST_TABLES)
    except StudyError:  # there is no database yet
        return {}
    engine = checked.plan.engine
    projection = Projection(CoordinateSystem(checked.space))
    return known.count(database, projection, tasks, engine.dtype, engine.chat_template)


def _require_disk(database: Database, needed: int) -> None:
    if database.file is None:
        return
    folder = database.file.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed * 1.2:
        raise StudyError(f"{folder} has {free} bytes free, the database may need {needed}; free some space")

"""Whether a study has anything left to do, from its database alone: no worker is started to find out."""

from __future__ import annotations

from ..checking.preflight import Preflight
from ..errors import StudyError
from ..study.results import Results, open_results, stored_form
from ..study.storage import Database


def finished(checked: Preflight, database: Database) -> Results | None:
    """The results of a study that is finished as the plan describes it; None if anything is left to do.

    The plan and the parents' contents must be those of the last run. Tasks and libraries are not compared,
    since no score would be made with them.
    """
    plan = checked.plan
    try:
        stored, results = open_results(database, plan.name)
    except StudyError:
        return None
    digests = [(name, parent.digest) for name, parent in checked.pool.parents.items()]  # their order counts
    if stored_form(stored) != stored_form(plan) or list(results.identity["parents"].items()) != digests:
        return None
    if len(results.scored) < plan.search.trials or any(row.state == "running" for row in results.rows):
        return None
    unseen = plan.held_out and any(row.held_out is None for row in results.reported)
    return None if unseen else results

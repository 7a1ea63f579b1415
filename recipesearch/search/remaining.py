"""Whether a study has anything left to do, from its database alone, without starting a worker."""

from __future__ import annotations

from ..checking.preflight import Preflight
from ..errors import StudyError
from ..study.results import Results, open_results, stored_form
from ..study.storage import Database


def finished(checked: Preflight, database: Database) -> Results | None:
    """The results of a study that is finished as the plan describes it; None if anything is left to do.

    The plan and the parents' contents must be the same as in the last run. Tasks and library versions are not
    compared, because a finished study makes no further scores.
    """
    plan = checked.plan
    try:
        stored, results = open_results(database, plan.name)
    except StudyError:
        return None
    digests = [(name, parent.digest) for name, parent in checked.pool.parents.items()]  # in order
    if stored_form(stored) != stored_form(plan) or list(results.identity["parents"].items()) != digests:
        return None
    if len(results.scored) < plan.search.trials or any(row.state == "running" for row in results.rows):
        return None
    unseen = plan.held_out and any(row.held_out is None for row in results.reported)
    return None if unseen else results

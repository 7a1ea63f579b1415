"""Whether a study has anything left to do, from its database alone, without starting a worker."""

from __future__ import annotations

from ..checking.preflight import Preflight
from ..errors import StudyError
from ..plan import Plan
from ..study.budget import Budget
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
    return results if _searched(plan, results) and _settled(plan, results) else None


def _searched(plan: Plan, results: Results) -> bool:
    budget = Budget(plan.search, results.goals, results.ledger)
    budget.add([str(row.recipe) for row in results.scored])
    return budget.reached(len(results.scored)) and not any(row.state == "running" for row in results.rows)


def _settled(plan: Plan, results: Results) -> bool:
    """Whether the front is settled and scored on the held-out items."""
    if plan.search.items and not all(row.standing for row in results.scored):
        return False
    return not (plan.held_out and any(row.held_out is None for row in results.reported))

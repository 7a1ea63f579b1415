"""A study's results as plain data for JSON, CSV or a data frame. Light: no plots.

Rows are flat dicts: ``trial``, ``seed`` (the label of a starting recipe, else None), and for each objective
NAME its value as ``NAME``, the standard error as ``NAME.stderr``, and both on held-out items as
``held_out.NAME`` and ``held_out.NAME.stderr``. Unknown values are None. After a model-based search also
``posterior.NAME`` with its standard deviation, ``posterior.NAME.stderr``, and ``front_probability``, the
probability to be on the front.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ..plan import Plan
from ..study.results import Results, Row, Values

STDERR = ".stderr"
POSTERIOR, FRONT_PROBABILITY = "posterior.", "front_probability"
_RECENT, _PAUSE = 20, 10  # recipes that the pace is taken from; their seconds in a pause between two runs
_NEXT, _LATEST = 10, 5  # recipes whose gain is estimated; proposals that the estimate is taken from


def front_rows(results: Results) -> list[dict[str, Any]]:
    """The rows of the front, from the best to the worst in the first objective."""
    return [_measured(results, row) for row in results.front]


def scored_rows(results: Results) -> list[dict[str, Any]]:
    """The rows of all scored recipes, in the order of their trials."""
    return [_measured(results, row) for row in results.scored]


def seed_rows(results: Results) -> list[dict[str, Any]]:
    """The rows of the seeds that are scored: the parents, the uniform average, the methods' defaults."""
    return [_measured(results, row) for row in results.scored if row.seed]


def status_data(plan: Plan, results: Results) -> dict[str, Any]:
    """The state of a study.

    ``study`` is its name. Counts: ``wanted`` (recipes to score in all), ``scored``, ``front`` (recipes on the
    front), ``trials``, ``repeats``, ``running``, ``waiting``, ``failed``. ``failures``: the failed trials by
    cause, most frequent first. ``best``: ``{objective: {value, stderr, trial}}``, empty without scores.
    By the clock, from the last twenty scored recipes: ``recipes_per_minute``, ``busy_workers`` (the mean
    number of workers that were scoring) and ``minutes_left``; None without two scores. ``expected_gain``:
    what a model expects of the next ten recipes together at most, as a share of the front's hypervolume or,
    of a single number, as its increase; None without a model.
    """
    repeats = repeated(results)
    states = Counter(row.state for row in results.rows)
    failures = failures_by_cause(results)
    return {
        "study": plan.name,
        "wanted": plan.search.trials,
        "scored": len(results.scored),
        "front": len(results.front),
        "trials": len(results.rows),
        "repeats": len(repeats),
        "running": states["running"],
        "waiting": states["waiting"],
        "failed": sum(failures.values()),
        "failures": failures,
        "best": {name: _best(results, name) for name in results.objectives if results.scored},
        **_pace(results.scored, plan.search.trials),
        "expected_gain": _ten_more(results),
    }


def trial_data(plan: Plan, results: Results, number: int) -> dict[str, Any]:
    """Everything about one trial.

    ``study``, ``trial``, ``state``, ``cause`` (of a failure), ``seed`` (label), ``recipe`` (digest),
    ``on_front``; ``values`` and ``held_out``: ``{objective: {value, stderr}}`` or None; ``seconds``: ``{load,
    score}`` or None; ``genome``; ``yaml``: the mergekit recipe, None unless the recipe was scored. Raises
    PlanError if the study has no such trial.
    """
    row = results.row(number)
    return {
        "study": plan.name,
        "trial": row.number,
        "state": row.state,
        "cause": row.cause,
        "seed": row.seed,
        "recipe": row.recipe,
        "on_front": row.recipe is not None and row.recipe in {member.recipe for member in results.front},
        "values": _nested(results, row.values),
        "held_out": _nested(results, row.held_out),
        "seconds": row.seconds and {"load": plain(row.seconds.load), "score": plain(row.seconds.score)},
        "genome": {gene: plain(value) for gene, value in row.genome.items()},
        "yaml": results.ledger.yaml(row.recipe) if row.recipe else None,
    }


def repeated(results: Results) -> set[int]:
    """The numbers of the finished trials whose recipe an earlier trial had finished."""
    seen: set[str] = set()
    repeats = set()
    for row in results.rows:
        if row.recipe is None or row.state not in ("complete", "fail"):
            continue
        if row.recipe in seen:
            repeats.add(row.number)
        seen.add(row.recipe)
    return repeats


def failures_by_cause(results: Results) -> dict[str, int]:
    """The number of failed trials by cause, most frequent first. Repeats of a failed recipe do not count."""
    repeats = repeated(results)
    failed = [row for row in results.rows if row.state == "fail" and row.number not in repeats]
    return dict(Counter(row.cause or "no cause was recorded" for row in failed).most_common())


def shown(value: float | None, stderr: float | None = None) -> str:
    """A measurement as text, ``0.563 ± 0.029``; empty for None."""
    if value is None:
        return ""
    return f"{value:.3f}" if stderr is None else f"{value:.3f} ± {stderr:.3f}"


def plain(value: Any) -> Any:
    """A gene or a measurement as JSON data: NumPy scalars become Python's, non-finite numbers None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _measured(results: Results, row: Row) -> dict[str, Any]:
    own, held_out = _flat(results, row.values), _flat(results, row.held_out, "held_out.")
    return {"trial": row.number, "seed": row.seed, **own, **_posterior(results, row), **held_out}


def _posterior(results: Results, row: Row) -> dict[str, Any]:
    """The posterior values, and the probability to be on the front; {} without a model's posterior."""
    if row.standing is None:
        return {}
    found: dict[str, Any] = {FRONT_PROBABILITY: row.standing.front}
    columns = zip(results.objectives, row.standing.means, row.standing.deviations, strict=True)
    for name, mean, deviation in columns:
        found |= {POSTERIOR + name: mean, POSTERIOR + name + STDERR: deviation}
    return found


def effect_rows(results: Results) -> list[dict[str, Any]]:
    """What was learnt: the change of each objective's value if the front's knee took a place from one parent.

    One row for each place and parent. Empty without a model's posterior.
    """
    return [
        {"place": place, "from": parent, **dict(zip(results.objectives, changes, strict=True))}
        for place, row in results.effects.items()
        for parent, changes in row.items()
    ]


def _flat(results: Results, values: Values | None, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for index, name in enumerate(results.objectives):
        flat[prefix + name] = plain(values[index].value) if values else None
        flat[prefix + name + STDERR] = plain(values[index].stderr) if values else None
    return flat


def _nested(results: Results, values: Values | None) -> dict[str, Any] | None:
    if values is None:
        return None
    pairs = zip(results.objectives, values, strict=True)
    return {name: {"value": plain(m.value), "stderr": plain(m.stderr)} for name, m in pairs}


def _best(results: Results, objective: str) -> dict[str, Any]:
    row = results.best(objective)
    assert row.values is not None
    measured = row.values[results.objectives.index(objective)]
    return {"value": plain(measured.value), "stderr": plain(measured.stderr), "trial": row.number}


def _ten_more(results: Results) -> float | None:
    """Ten times the mean of the last expected gains. Gains shrink, so ten recipes add this much at most."""
    gains = [row.expected_gain for row in results.rows if row.expected_gain is not None][-_LATEST:]
    return float(f"{_NEXT * sum(gains) / len(gains):.3g}") if gains else None


def _without_pauses(ended: list[tuple[datetime, Row]]) -> list[tuple[datetime, Row]]:
    """The last ends of trials since the last pause: a gap far longer than the recipe after it took."""
    kept = ended[-1:]
    for one in reversed(ended[-_RECENT - 1 : -1]):
        taken = kept[0][1].seconds
        if taken and (kept[0][0] - one[0]).total_seconds() > _PAUSE * max(taken.load + taken.score, 1.0):
            break
        kept.insert(0, one)
    return kept


def _pace(scored: Sequence[Row], wanted: int) -> dict[str, float | None]:
    ended = _without_pauses(sorted(((row.ended, row) for row in scored if row.ended), key=lambda one: one[0]))
    elapsed = (ended[-1][0] - ended[0][0]).total_seconds() if ended else 0.0
    if elapsed <= 0:
        return {"recipes_per_minute": None, "busy_workers": None, "minutes_left": None}
    spent = sum(row.seconds.load + row.seconds.score for _, row in ended[1:] if row.seconds)
    pace = 60 * (len(ended) - 1) / elapsed
    return {
        "recipes_per_minute": round(pace, 1),
        "busy_workers": round(spent / elapsed, 1),
        "minutes_left": round(max(0, wanted - len(scored)) / pace, 1),
    }

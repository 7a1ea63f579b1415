"""The sections of a study's page as HTML: header, front, search, failures. Escapes all texts of the study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ..plan import Plan
from ..score import Measurement
from ..study.results import Results, Row, conditions_of
from .figures import objective_labels
from .rows import shown

_CAUSES = 20


def header_section(plan: Plan, results: Results, status: Mapping[str, Any]) -> str:
    """The study's name, its counts, and its parents, objectives, sampler and conditions."""
    pace = status["recipes_per_minute"]
    tiles = {
        "scored recipes": f"{status['scored']} of {status['wanted']}",
        "on the front": status["front"],
        "failed": status["failed"],
        "repeats": status["repeats"],
        **({"running": status["running"]} if status["running"] else {}),
        "recipes a minute": "–" if pace is None else f"{pace:.0f}",
    }
    items = "".join(f"<li><b>{value}</b>{name}</li>" for name, value in tiles.items())
    facts = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in _facts(plan, results).items())
    return f"<h1>{escape(plan.name)}</h1>\n<ul class=tiles>{items}</ul>\n<section><dl>{facts}</dl></section>"


def _facts(plan: Plan, results: Results) -> dict[str, str]:
    digests = results.identity["parents"]
    parents = [
        f"<b>{escape(name)}</b> {escape(reference)} <code>{escape(digests.get(name, '')[:12])}</code>"
        + (" (base)" if name == plan.base else "")
        for name, reference in plan.parents.items()
    ]
    conditions, search = conditions_of(results.identity), plan.search
    template = "with" if conditions.chat_template else "without"
    return {
        "Parents": "<br>".join(parents),
        "Objectives": "<br>".join(objective_labels(results)),
        "Sampler": f"{escape(results.sampler)}, population {search.population}, seed {search.seed}",
        "Scored by": f"{escape(conditions.engine)}, {escape(conditions.dtype)}, {template} chat template",
    }


def front_sections(results: Results, figures: Mapping[str, Any]) -> list[str]:
    """The front's figure, the recipe that is shown, and the front's table."""
    choices = [key for key in figures if key.startswith("front-")]
    options = "".join(f'<option value="{key}">{figures[key]["label"]}</option>' for key in choices)
    menu = f"<label>Axes <select id=axes>{options}</select></label>" if len(choices) > 1 else ""
    single = len(results.objectives) == 1
    hidden = " hidden" if single else ""
    title = "The best recipes" if single else "The Pareto front"
    line = "the best value so far" if single else "the front in the two objectives shown"
    return [
        f"<section><div class=bar><h2>{title}</h2><span>{menu} <button id=zoom{hidden}></button></span></div>"
        f"<p class=note>Arrows point towards better values. The line is {line}; bars are standard errors on "
        "the search items. Click a point to show its recipe.</p>"
        '<div class="figure seen" id=front data-figure="front-0"></div></section>',
        "<section id=recipe><div class=bar><h2 id=recipe-title></h2><button id=copy>Copy</button></div>"
        "<p class=note id=recipe-kind></p><pre id=recipe-text></pre></section>",
        _front_table(results),
    ]


def search_sections(results: Results, figures: Mapping[str, Any]) -> list[str]:
    """The progress of the search: the hypervolume, and every trial."""
    sections = []
    if "hypervolume" in figures:
        note = (
            "The volume that the first n recipes within the bounds dominate. The reference point is a little "
            "worse than their worst value in each objective."
        )
        sections.append(_figure_section("Hypervolume", note, ["hypervolume"]))
    note = "Every scored trial by merge method, and the best value so far. Crosses are failed trials."
    progress = [key for key in figures if key.startswith("progress-")]
    return [*sections, _figure_section("Every trial", note, progress)]


def _figure_section(title: str, note: str, keys: Iterable[str]) -> str:
    figures = "".join(f'<div class=figure data-figure="{key}"></div>' for key in keys)
    return f"<section><h2>{title}</h2><p class=note>{note}</p>{figures}</section>"


def _front_table(results: Results) -> str:
    held_out = any(row.held_out for row in results.front)
    columns = ("search", "held-out", "difference") if held_out else ("search",)
    groups = "".join(
        f'<th class=group colspan="{len(columns)}">{label}</th>' for label in objective_labels(results)
    )
    heads = "".join(f"<th>{column}</th>" for _ in results.objectives for column in columns)
    places = {row.number: index for index, row in enumerate(results.scored)}
    members = {row.number for row in results.front}
    seeds = [row for row in results.scored if row.seed and row.number not in members]
    first, second = (
        "".join(_front_row(results, row, places[row.number], held_out) for row in rows)
        for rows in (results.front, seeds)
    )
    note = (
        "The recipes were selected by their values on the search items, so these values are optimistic. The "
        "search did not use the held-out items. Red: the value on held-out items is worse by more than two "
        "standard errors of the difference."
        if held_out
        else "Values on the search items; there are no held-out scores."
    )
    return (
        f"<section><h2>The front and the seeds</h2>"
        f"<p class=note>{note}</p><div class=scroll><table><thead><tr><th></th><th></th>{groups}</tr>"
        f"<tr><th class=text>trial</th><th class=text></th>{heads}</tr>"
        f"</thead><tbody>{first}</tbody><tbody>{second}</tbody></table></div></section>"
    )


def _front_row(results: Results, row: Row, place: int, held_out: bool) -> str:
    cells = [
        f'<td class=text><button class=link data-recipe="{place}">{row.number}</button></td>',
        f"<td class=text>{escape(row.seed or '')}</td>",
    ]
    for index, measured in enumerate(row.values or ()):
        cells.append(f"<td>{shown(measured.value, measured.stderr)}</td>")
        if held_out:
            other = row.held_out[index] if row.held_out else None
            cells.append(_held_out_cells(measured, other, results.signs[index]))
    return f"<tr>{''.join(cells)}</tr>"


def _held_out_cells(search: Measurement, held_out: Measurement | None, sign: int) -> str:
    if held_out is None:
        return "<td>–</td><td>–</td>"
    difference = held_out.value - search.value
    errors = (search.stderr, held_out.stderr)
    error = None if None in errors else math.hypot(*(e for e in errors if e is not None))
    worse = " class=worse" if error is not None and sign * difference > 2 * error else ""
    sign_shown = "+" if difference >= 0 else ""
    values = shown(held_out.value, held_out.stderr), sign_shown + shown(difference, error)
    return f"<td>{values[0]}</td><td{worse}>{values[1]}</td>"


def failures_section(causes: Mapping[str, int]) -> str:
    """The failed trials by cause; an empty text if there are none."""
    if not causes:
        return ""
    listed = list(causes.items())[:_CAUSES]
    rest = sum(causes.values()) - sum(count for _, count in listed)
    rows = [(escape(cause), count) for cause, count in listed] + ([("other causes", rest)] if rest else [])
    cells = "".join(f"<tr><td>{count}</td><td class=text>{cause}</td></tr>" for cause, count in rows)
    return (
        "<section><h2>Failed trials</h2><p class=note>By cause.</p><div class=scroll><table><thead>"
        f"<tr><th>trials</th><th class=text>cause</th></tr></thead><tbody>{cells}</tbody></table></div>"
        "</section>"
    )

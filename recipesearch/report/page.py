"""The page of a study: one offline HTML file with figures to explore, the front's table and all recipes.

Names, causes of failures and recipes come from studies, so they are escaped in HTML, JSON and hover texts.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from ..files import write_text
from ..plan import Plan
from ..study.results import Results, Row
from .document import document, embedded, plotly
from .figures import all_figures, objective_labels
from .page_sections import failures_section, front_sections, header_section, search_sections
from .page_template import SCRIPT
from .rows import plain, shown, status_data

_YAML_BUDGET = 4_000_000  # characters of YAML in a page; further recipes show their genes instead


def write_page(plan: Plan, results: Results, path: Path) -> None:
    """Writes the page atomically. Recipes are read from the ledger; no model is opened."""
    status = status_data(plan, results)
    body = [header_section(plan, results, status)]
    scripts: list[str] = []
    if results.scored:
        figures = all_figures(results)
        body += [*front_sections(results, figures), *search_sections(results, figures)]
        scripts = [plotly(), SCRIPT]
        body.append(embedded({**_recipes(results), "figures": figures}))
    else:
        body.append(
            "<section><h2>No recipe has been scored yet</h2><p class=note>Run the study first.</p></section>"
        )
    body.append(failures_section(status["failures"]))
    write_text(path, document(plan.name, "\n".join(body), scripts))


def _recipes(results: Results) -> dict[str, Any]:
    """Every scored recipe, with its YAML while the budget lasts (front and seeds first), else with its genes.

    ``first`` is the index of the recipe that the page shows first: the knee.
    """
    scored = results.scored
    notable = {row.number for row in results.front} | {row.number for row in scored if row.seed}
    entries: dict[int, dict[str, Any]] = {}
    left = _YAML_BUDGET
    for index in sorted(range(len(scored)), key=lambda i: scored[i].number not in notable):
        row = scored[index]
        text = results.ledger.yaml(row.recipe) if row.recipe and left > 0 else None
        left -= len(text or "")
        recipe = {"yaml": text} if text else {"genome": [_gene(value) for value in row.genome.values()]}
        entries[index] = {"title": _title(row), "hover": _hover(results, row), **recipe}
    return {
        "recipes": [entries[index] for index in range(len(scored))],
        "genes": list(scored[0].genome),
        "first": scored.index(results.knee()),
    }


def _gene(value: Any) -> Any:
    value = plain(value)
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _title(row: Row) -> str:
    return f"Trial {row.number}" + (f" · {row.seed}" if row.seed else "")


def _hover(results: Results, row: Row) -> str:
    lines = [f"<b>{escape(_title(row))}</b>"]
    for label, measured in zip(objective_labels(results), row.values or (), strict=True):
        lines.append(f"{label}: {shown(measured.value, measured.stderr)}")
    return "<br>".join(lines)

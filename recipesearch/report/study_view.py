"""A study as its database has it: the results as rows, as a data frame and as figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..plan import Plan
from ..study.results import Results, Row
from .rows import front_rows, scored_rows, status_data, trial_data

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects as go


@dataclass(frozen=True)
class StudyView:
    """A study's plan and results.

    Rows are flat dicts: ``trial``, ``seed`` (the label of a starting recipe, else None), and for each
    objective NAME its value as ``NAME``, the standard error as ``NAME.stderr``, and both on held-out items as
    ``held_out.NAME`` and ``held_out.NAME.stderr``.
    """

    plan: Plan
    results: Results

    def front(self) -> list[dict[str, Any]]:
        """The rows of the Pareto front, by falling first objective."""
        return front_rows(self.results)

    def scored(self) -> list[dict[str, Any]]:
        """The rows of all scored recipes, in order."""
        return scored_rows(self.results)

    def status(self) -> dict[str, Any]:
        """The state of the study: counts, best values, failures by cause."""
        return status_data(self.plan, self.results)

    def trial(self, number: int) -> dict[str, Any]:
        """Everything about one trial, its genome and mergekit YAML included. Raises PlanError if there is
        none."""
        return trial_data(self.plan, self.results, number)

    def chosen(self, trial: int | None = None, best: str | None = None) -> Row:
        """A trial by its number, the best in one objective, or by default the knee of the front."""
        if trial is not None:
            return self.results.row(trial)
        return self.results.best(best) if best is not None else self.results.knee()

    def frame(self) -> pandas.DataFrame:
        """All scored recipes as a pandas DataFrame, a row each, with a column ``on_front``."""
        import pandas

        members = {row["trial"] for row in self.front()}
        rows = [row | {"on_front": row["trial"] in members} for row in self.scored()]
        return pandas.DataFrame(rows).set_index("trial") if rows else pandas.DataFrame()

    def figures(self) -> dict[str, go.Figure]:
        """The figures of the study's page by name, as plotly figures: the front by pairs of objectives, each
        objective over the trials, and the hypervolume."""
        import plotly.graph_objects as go

        from .figures import all_figures

        self.results.require_scores()
        return {
            name: go.Figure(data=figure["data"], layout=figure["layout"])
            for name, figure in all_figures(self.results).items()
        }

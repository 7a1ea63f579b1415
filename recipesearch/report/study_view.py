"""A study in its database: the results as rows, as a data frame and as figures."""

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
    ``held_out.NAME`` and ``held_out.NAME.stderr``. Unknown values are None. After a model-based search also
    ``posterior.NAME``, ``posterior.NAME.stderr`` and ``front_probability``.
    """

    plan: Plan
    results: Results

    def front(self) -> list[dict[str, Any]]:
        """The rows of the Pareto front, from the best to the worst in the first objective."""
        return front_rows(self.results)

    def scored(self) -> list[dict[str, Any]]:
        """The rows of all scored recipes, in the order of their trials."""
        return scored_rows(self.results)

    def status(self) -> dict[str, Any]:
        """The state of the study: counts, best values, failures by cause (see ``rows.status_data``)."""
        return status_data(self.plan, self.results)

    def trial(self, number: int) -> dict[str, Any]:
        """Everything about one trial, such as its genome and its mergekit YAML (see ``rows.trial_data``).

        Raises PlanError if the study has no such trial.
        """
        return trial_data(self.plan, self.results, number)

    def chosen(self, trial: int | None = None, best: str | None = None) -> Row:
        """The row of a ``trial``, of the ``best`` recipe in one objective, or by default of the front's knee.

        Raises PlanError for an unknown trial or objective, StudyError if no recipe is scored yet.
        """
        if trial is not None:
            return self.results.row(trial)
        return self.results.best(best) if best is not None else self.results.knee()

    def frame(self) -> pandas.DataFrame:
        """The rows of ``scored`` as a DataFrame with the index ``trial`` and a column ``on_front``.

        Raises ImportError if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("StudyView.frame needs pandas: run 'pip install pandas'") from error

        members = {row["trial"] for row in self.front()}
        rows = [row | {"on_front": row["trial"] in members} for row in self.scored()]
        return pandas.DataFrame(rows).set_index("trial") if rows else pandas.DataFrame()

    def figures(self) -> dict[str, go.Figure]:
        """The figures of the study's page as plotly figures, by the keys of ``figures.all_figures``.

        Raises StudyError if no recipe is scored yet.
        """
        import plotly.graph_objects as go

        from .figures import all_figures

        self.results.require_scores()
        return {
            name: go.Figure(data=figure["data"], layout=figure["layout"])
            for name, figure in all_figures(self.results).items()
        }

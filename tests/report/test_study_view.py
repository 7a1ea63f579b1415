"""StudyView: rows, status, one trial, the data frame and plotly's figures of a study with given scores."""

import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from test_tables import TWO, Trial, make_study

from recipesearch.errors import PlanError, StudyError
from recipesearch.report.study_view import StudyView


@pytest.fixture
def view(tmp_path: Path) -> StudyView:
    return StudyView(*make_study(tmp_path, TWO, held_out=True))


@pytest.fixture
def unscored(tmp_path: Path) -> StudyView:
    return StudyView(*make_study(tmp_path, [Trial(cause="no memory")]))


def test_the_front_is_sorted_by_the_first_objective(view: StudyView) -> None:
    front = view.front()
    assert [row["trial"] for row in front] == [1, 4, 0]
    assert [row["seed"] for row in front] == ["parent b", None, "parent a"]
    assert front[0]["task0.acc"] == 0.8
    assert front[0]["task0.acc.stderr"] == 0.025
    assert front[0]["held_out.task0.acc"] == pytest.approx(0.6)


def test_scored_recipes_are_in_the_order_of_their_trials(view: StudyView) -> None:
    rows = view.scored()
    assert [row["trial"] for row in rows] == [0, 1, 2, 3, 4, 6], "trial 5 failed"
    assert [row["task1.acc"] for row in rows] == [0.9, 0.2, 0.5, 0.4, 0.6, 0.3]


def test_the_status_counts_trials_and_failures(view: StudyView) -> None:
    status = view.status()
    assert (status["study"], status["wanted"], status["scored"], status["front"]) == ("small", 7, 6, 3)
    assert status["failures"] == {"non-finite logits": 1}
    assert status["best"]["task1.acc"]["trial"] == 0


def test_a_trial_has_its_genome_and_its_recipe(view: StudyView) -> None:
    trial = view.trial(3)
    assert (trial["seed"], trial["genome"]["method"]) == ("slerp defaults", "slerp")
    assert trial["yaml"].startswith("merge_method: slerp")
    with pytest.raises(PlanError, match="no trial 99"):
        view.trial(99)


def test_the_knee_is_chosen_by_default(view: StudyView) -> None:
    assert view.chosen().number == 4
    assert view.chosen(trial=5).number == 5
    assert view.chosen(best="task1.acc").number == 0


def test_the_frame_has_a_row_for_each_scored_recipe(view: StudyView) -> None:
    pytest.importorskip("pandas")
    frame = view.frame()
    assert list(frame.index) == [0, 1, 2, 3, 4, 6]
    assert list(frame.index[frame["on_front"]]) == [0, 1, 4]
    assert frame.loc[4, "task0.acc"] == 0.7
    assert frame.loc[4, "held_out.task1.acc"] == pytest.approx(0.4)


def test_the_frame_of_a_study_without_scores_is_empty(unscored: StudyView) -> None:
    pytest.importorskip("pandas")
    assert unscored.frame().empty


def test_without_pandas_the_error_says_how_to_install_it(
    view: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="frame needs pandas: run 'pip install pandas'"):
        view.frame()


@pytest.mark.parametrize(
    ("objectives", "names"),
    [
        (1, ["front-0", "progress-0"]),
        (2, ["front-0", "hypervolume", "progress-0", "progress-1"]),
        (3, ["front-0", "front-1", "front-2", "hypervolume", "progress-0", "progress-1", "progress-2"]),
    ],
)
def test_the_figures_are_plotly_figures(tmp_path: Path, objectives: int, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    trials = [Trial(tuple(rng.random(objectives))) for _ in range(8)]
    figures = StudyView(*make_study(tmp_path, trials, objectives)).figures()
    assert sorted(figures) == names
    for figure in figures.values():
        assert isinstance(figure, go.Figure)
        assert len(figure.data[0].x) > 0
    seeds = next(trace for trace in figures["front-0"].data if trace.name == "seeds")
    assert "parent a" in seeds.text


def test_a_study_without_scores_has_no_figures(unscored: StudyView) -> None:
    with pytest.raises(StudyError, match="no scored recipe yet"):
        unscored.figures()

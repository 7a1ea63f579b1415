import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tables import TWO, Trial, make_study

from recipesearch.analysis.generations import generations
from recipesearch.plan import Plan
from recipesearch.report.figures import front_figures, hypervolume_figure, progress_figure
from recipesearch.report.page import write_page
from recipesearch.report.page_template import SCRIPT
from recipesearch.study.results import Results

HOSTILE = "<script>alert('x')<script>"


class Elements(HTMLParser):
    """What a browser would make of a page: its elements, its text outside scripts, its data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data: dict[str, Any] = {}
        self._inside = ""
        self._chunks: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside, self._chunks = "", []
        if tag in ("script", "style"):
            self._inside = dict(attrs).get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        if self._inside == "study":
            self.data = json.loads("".join(self._chunks))
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._chunks.append(data)
        else:
            self.text += data

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.found)


def _page(folder: Path, plan: Plan, results: Results) -> Elements:
    write_page(plan, results, folder / "page.html")
    return Elements((folder / "page.html").read_text("utf-8"))


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    page = _page(tmp_path, *make_study(tmp_path, TWO))
    assert not [attrs for _, attrs in page.found if {"src", "href", "action", "data"} & set(attrs)]
    assert not {"link", "iframe", "img", "base"} & {tag for tag, _ in page.found}
    policy = next(str(a["content"]) for t, a in page.found if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "script-src 'sha256-" in policy
    assert "modeBarButtons: [[" in SCRIPT  # plotly's own choice of buttons has one that uploads


def test_the_page_shows_counts_front_and_conditions(tmp_path: Path) -> None:
    page = _page(tmp_path, *make_study(tmp_path, TWO, held_out=True))
    for text in ("small", "6 of 7", "random", "seed 3", "/models/a", "transformers/cpu/threads=2", "float32"):
        assert text in page.text, text
    assert "0.800 ± 0.025" in page.text
    assert "-0.200 ± 0.035" in page.text  # held-out minus search, with the error of the difference
    assert "non-finite logits" in page.text
    assert ("td", {"class": "worse"}) in page.found


@pytest.mark.parametrize(
    ("objectives", "figures"),
    [
        (1, {"front-0", "progress-0"}),
        (2, {"front-0", "hypervolume", "progress-0", "progress-1"}),
        (3, {"front-0", "front-1", "front-2", "hypervolume", "progress-0", "progress-1", "progress-2"}),
    ],
)
def test_any_number_of_objectives_has_its_figures(tmp_path: Path, objectives: int, figures: set[str]) -> None:
    rng = np.random.default_rng(0)
    trials = [Trial(tuple(rng.random(objectives))) for _ in range(8)]
    page = _page(tmp_path, *make_study(tmp_path, trials, objectives))
    assert set(page.data["figures"]) == figures
    drawn = {a["data-figure"] for _, a in page.found if "data-figure" in a}
    assert drawn == {key for key in figures if not re.fullmatch("front-[12]", key)}
    assert page.count("option") == (3 if objectives == 3 else 0)


def test_every_scored_recipe_can_be_shown(tmp_path: Path) -> None:
    plan, results = make_study(tmp_path, TWO)
    page = _page(tmp_path, plan, results)
    recipes = page.data["recipes"]
    assert [recipe["title"] for recipe in recipes][:2] == ["Trial 0 · parent a", "Trial 1 · parent b"]
    assert recipes[3]["yaml"] == results.ledger.yaml(str(results.scored[3].recipe))
    assert "task0.acc ↑: 0.800 ± 0.025" in recipes[1]["hover"]
    assert recipes[page.data["first"]]["title"] == "Trial 4"  # the knee


def test_recipes_beyond_the_budget_show_their_genes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipesearch.report.page._YAML_BUDGET", 1)
    plan, results = make_study(tmp_path, TWO)
    page = _page(tmp_path, plan, results)
    assert sum("yaml" in recipe for recipe in page.data["recipes"]) == 1
    genes = dict(zip(page.data["genes"], page.data["recipes"][5]["genome"], strict=True))
    assert genes["method"] == results.scored[5].genome["method"]


def test_a_study_without_scores_says_so(tmp_path: Path) -> None:
    page = _page(tmp_path, *make_study(tmp_path, [Trial(cause="no memory")]))
    assert "No recipe has been scored yet" in page.text
    assert "no memory" in page.text
    assert page.count("script") == 0


def test_texts_from_the_study_arrive_escaped(tmp_path: Path) -> None:
    plan, results = make_study(tmp_path, [*TWO, Trial(cause=HOSTILE)], name=HOSTILE)
    seeded = replace(results.rows[0], seed=HOSTILE, genome={**results.rows[0].genome, "method": HOSTILE})
    page = _page(tmp_path, plan, Results(results.identity, [seeded, *results.rows[1:]], results.ledger))
    assert page.count("script") == 3  # the data, plotly, the page's own
    assert page.text.count(HOSTILE) == 4  # title, heading, front table, cause: as text
    # Hover and legend texts are pseudo-HTML to plotly, so they are escaped once more than plain ones.
    assert "<script" not in page.data["recipes"][0]["hover"]
    assert "<script" not in json.dumps(page.data["figures"])
    raw = (tmp_path / "page.html").read_text("utf-8")
    assert raw.count("<script>alert") == 0


def test_the_front_line_runs_along_what_is_reached(tmp_path: Path) -> None:
    _, results = make_study(tmp_path, TWO)
    every, line, seeds, front = next(iter(front_figures(results).values()))["data"]
    assert (line["x"], line["y"]) == ([0.8, 0.7, 0.1], [0.2, 0.6, 0.9])
    assert len(every["x"]) == 6
    assert seeds["customdata"] == [0, 1, 2, 3]
    assert seeds["text"] == ["parent a", "parent b", "uniform average", "slerp defaults"]
    assert front["error_x"]["array"] == [0.025] * 3


def test_with_one_objective_the_front_figure_runs_over_trials(tmp_path: Path) -> None:
    values = (0.2, 0.1, 0.5, 0.4, 0.7, 0.3)
    _, results = make_study(tmp_path, [Trial((value,)) for value in values], objectives=1)
    (figure,) = front_figures(results).values()
    assert figure["data"][0]["x"] == [0, 1, 2, 3, 4, 5]
    assert (figure["data"][1]["x"], figure["data"][1]["y"]) == ([0, 2, 4, 5], [0.2, 0.5, 0.7, 0.7])


def test_progress_shows_every_trial_with_its_method(tmp_path: Path) -> None:
    _, results = make_study(tmp_path, TWO)
    *methods, best, failed = progress_figure(results, 1)["data"]
    assert {trace["name"] for trace in methods} == {"linear", "slerp"}
    assert sorted(x for trace in methods for x in trace["x"]) == [0, 1, 2, 3, 4, 6]
    assert best["y"][-1] == 0.9
    assert failed["x"] == [5]
    assert "non-finite logits" in failed["text"][0]


def test_a_front_squeezed_by_outliers_is_shown_close(tmp_path: Path) -> None:
    far = [Trial((0.0, 0.01)), *(Trial((0.5 + i / 100, 0.9 - i / 100)) for i in range(6))]
    _, results = make_study(tmp_path, far)
    figure = next(iter(front_figures(results).values()))
    assert figure["start"] == "near"
    (_, low_every), _ = figure["views"]["every"]
    (_, low_near), _ = figure["views"]["near"]
    assert low_every < 0.01, "the parent that is bad at both tasks"
    assert low_near > 0.5


def test_hypervolume_is_drawn_at_a_limited_number_of_recipes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    _, results = make_study(tmp_path, [Trial(tuple(rng.random(2))) for _ in range(20)])
    figure = hypervolume_figure(results, steps=5)
    assert figure is not None
    line = figure["data"][0]
    assert line["x"] == [1, 5, 10, 15, 20]
    assert line["y"] == sorted(line["y"])


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_page_and_the_generations_have_one_hypervolume(tmp_path: Path, objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    plan, results = make_study(
        tmp_path, [Trial(tuple(rng.random(objectives))) for _ in range(30)], objectives
    )
    line = _page(tmp_path, plan, results).data["figures"]["hypervolume"]["data"][0]
    history = generations(results)
    assert line["x"][-1] == len(results.scored)
    assert line["y"][-1] == history[-1].hypervolume
    assert dict(zip(line["x"], line["y"], strict=True))[history[0].trials] == history[0].hypervolume

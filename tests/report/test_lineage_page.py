"""A lineage as text, as a figure and as a page: of a family made by hand, whose answer is known."""

import time
from pathlib import Path

import pytest
from test_page import HOSTILE, Elements

from recipesearch.analysis.family import Edge, Family
from recipesearch.analysis.trace import Lineage, Node
from recipesearch.exporting.card_lineage import licence
from recipesearch.recipe import Parent
from recipesearch.report.lineage_figure import lineage_figure
from recipesearch.report.lineage_page import write_lineage
from recipesearch.report.lineage_tree import percent, tree_text

MUTANT = {"settings": {"kind": "dpo", "beta": 0.1}, "reason": "better: m 0.400 -> 0.500"}
NODES = [
    Node("r", "merge", "trial 9 of s.e2", "trial 9 of s.e2 (knee)", 2, "s.e2", 9, scores={"m": 0.75}),
    Node("x", "mutant", "mutant of trial 5 of s.e1", "mutant of trial 5 of s.e1: DPO, 4 pairs", 1, "s.e1", 5,
         scores={"m": 0.5}, before={"m": 0.4}, mutation=MUTANT),
    Node("t", "merge", "trial 5 of s.e1", "trial 5 of s.e1 (best m)", 1, "s.e1", 5, scores={"m": 0.4}),
    Node("a", "initial", "a", "a: org/a", 0, reference="org/a"),
    Node("b", "initial", "b", "b: org/b", 0, reference="org/b"),
]  # fmt: skip
EDGES = (
    Edge("r", "x", 0.62),
    Edge("r", "t", 0.375),
    Edge("r", "b", 0.004),
    Edge("r", "a", 0.0),
    Edge("x", "t", 1.0),
    Edge("t", "a", 0.25),
    Edge("t", "b", 0.75),
)
TEXT = """\
trial 9 of s.e2 (knee)
m 0.750
├── 62% mutant of trial 5 of s.e1: DPO, 4 pairs
│   m 0.400 -> 0.500
│   └── trial 5 of s.e1 (best m)
│       m 0.400
│       ├── 75% b: org/b
│       └── 25% a: org/a
├── 38% trial 5 of s.e1 (see above)
├── <1% b
└── base a"""


def made(nodes: list[Node] = NODES, edges: tuple[Edge, ...] = EDGES) -> Lineage:
    models = {node.digest: Parent(node.digest, f"/models/{node.digest}") for node in nodes}
    return Lineage(Family(nodes[0].digest, models, edges), {node.digest: node for node in nodes})


def test_the_tree_shows_each_model_once_and_refers_above_after_that() -> None:
    assert tree_text(made()) == TEXT


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100%"), (0.375, "38%"), (0.0049, "<1%"), (0.0051, "1%"), (0.0, "base")]
)
def test_shares_are_shown_in_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_thirty_generations_make_a_tree_of_as_many_lines_as_edges() -> None:
    for last in (6, 30):  # a tree of all paths would end with the first
        names = [f"{n}{s}" for n in range(last, -1, -1) for s in "ab"]
        names.remove(f"{last}b")
        edges = [Edge(f"{n + 1}{s}", f"{n}{t}", 0.5) for n in range(last) for s in "ab" for t in "ab"]
        nodes = [Node(name, "merge", name, name, int(name[:-1])) for name in names]
        lineage = made(nodes, tuple(edge for edge in edges if edge.child in names))
        start = time.perf_counter()
        lines = tree_text(lineage).splitlines()
        figure = lineage_figure(lineage)
        assert time.perf_counter() - start < 1.0
        assert len(lines) == 1 + len(lineage.family.edges)
        assert len(figure["layout"]["xaxis"]["tickvals"]) == last + 1


def test_the_data_is_nodes_and_edges() -> None:
    data = made().data()
    assert (data["study"], data["trial"], data["root"]) == ("s.e2", 9, "r")
    assert [node["digest"] for node in data["nodes"]] == list("rxtab")
    assert data["nodes"][1]["before"] == {"m": 0.4}
    assert {"child": "t", "parent": "b", "share": 0.75} in data["edges"]
    assert len(data["edges"]) == len(EDGES)


def test_the_figure_runs_from_the_parents_over_the_eras_to_the_trial() -> None:
    figure = lineage_figure(made())
    points = [trace for trace in figure["data"] if trace["mode"] == "markers+text"]
    across = {text: x for trace in points for text, x in zip(trace["text"], trace["x"], strict=True)}
    assert across == {"a": 0, "b": 0, "trial 5": 1, "mutant of 5": 2, "trial 9": 3}
    assert figure["layout"]["xaxis"]["ticktext"] == ["parents", "era 1", "era 1: mutants", "era 2"]
    heights = {y for trace in points for x, y in zip(trace["x"], trace["y"], strict=True) if x == 0}
    assert len(heights) == 2, "no two models lie on each other"


def test_edges_are_as_wide_as_the_shares_are_large() -> None:
    lines = [trace for trace in lineage_figure(made())["data"] if trace["mode"] == "lines"]
    drawn = {
        trace["line"]["width"]: len(trace["x"]) // 3 for trace in lines if trace["line"]["dash"] == "solid"
    }
    assert drawn == {8: 1, 6: 1, 5: 1, 3: 1, 2: 1, 1: 1}
    assert [trace["line"]["dash"] for trace in lines].count("dot") == 1, "the base that only gives the origin"


def test_the_page_fetches_nothing_and_has_figure_and_text(tmp_path: Path) -> None:
    write_lineage(made(), tmp_path / "page.html")
    page = Elements((tmp_path / "page.html").read_text("utf-8"))
    assert TEXT in page.text
    assert not [attrs for _, attrs in page.found if {"src", "href", "action", "data"} & set(attrs)]
    policy = next(str(a["content"]) for t, a in page.found if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    points = [trace for trace in page.data["figure"]["data"] if trace.get("name") == "mutants"]
    (hover,) = points[0]["customdata"]
    for text in ("DPO, 4 pairs", "m 0.400 -&gt; 0.500", "beta: 0.1", "better:"):
        assert text in hover


def test_names_arrive_escaped(tmp_path: Path) -> None:
    nodes = [NODES[0], Node("a", "initial", HOSTILE, HOSTILE, 0, reference=HOSTILE)]
    write_lineage(made(nodes, (Edge("r", "a", 1.0),)), tmp_path / "page.html")
    page = Elements((tmp_path / "page.html").read_text("utf-8"))
    assert page.count("script") == 3  # the data, plotly, the page's own
    assert HOSTILE in page.text
    assert "<script" not in str(page.data["figure"])


@pytest.mark.parametrize(
    ("card", "stated"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Model\n", "apache-2.0"),
        ("---\r\nlicense: mit\r\n---\r\n", "mit"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama3.1\n---\n", "other (llama3.1)"),
        ("---\ntags: [a]\n---\nlicense: mit\n", None),
        ("license: mit\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("---\nlicense: [mit\n---\n", None),
        ("---\n- license\n---\n", None),
        ("", None),
    ],
)
def test_a_licence_is_what_the_front_matter_states(tmp_path: Path, card: str, stated: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert licence(tmp_path) == stated


def test_a_model_without_a_card_states_no_licence(tmp_path: Path) -> None:
    assert licence(tmp_path) is None

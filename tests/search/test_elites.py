"""Elites: the rules that choose them, on made-up results."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from recipesearch.score import Measurement
from recipesearch.search.elites import choose
from recipesearch.study.results import Results, Row

# The front: a, b, c, d; b is the knee, c adds next to nothing to the hypervolume.
VALUES = {
    "a": (0.9, 0.1),
    "b": (0.7, 0.7),
    "c": (0.69, 0.71),
    "d": (0.1, 0.9),
    "e": (0.2, 0.2),
    "f": (0.1, 0.1),
}


def results_of(values: dict[str, tuple[float, float]]) -> Results:
    objectives = [{"name": n, "task": n, "metric": "m", "maximize": True} for n in ("one", "two")]
    identity: Any = {"objectives": objectives, "parents": {}}
    rows = [
        Row(number, "complete", recipe, None, None, {}, tuple(Measurement(v, None) for v in pair), None, None)
        for number, (recipe, pair) in enumerate(values.items())
    ]
    return Results(identity, rows, SimpleNamespace())  # type: ignore[arg-type]


def chosen(count: int, share: float, seed: int = 0) -> list[tuple[str | None, str]]:
    return [(row.recipe, rule) for row, rule in choose(results_of(VALUES), count, share, Random(seed))]


def test_the_knee_then_the_best_then_who_adds_most() -> None:
    assert chosen(4, 0.0) == [("b", "knee"), ("a", "best one"), ("d", "best two"), ("c", "hypervolume")]
    assert chosen(2, 0.0) == [("b", "knee"), ("a", "best one")]


def test_a_share_is_drawn_from_the_others_by_its_seed() -> None:
    by_rule, drawn = chosen(4, 0.5)[:2], chosen(4, 0.5)[2:]
    assert by_rule == [("b", "knee"), ("a", "best one")]
    assert {rule for _, rule in drawn} == {"random"}
    assert len({recipe for recipe, _ in drawn} - {"a", "b"}) == 2
    assert chosen(4, 0.5) == chosen(4, 0.5)
    assert len({str(chosen(4, 0.5, seed)) for seed in range(20)}) > 3


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nobody_is_chosen_twice_and_never_more_than_there_are(share: float) -> None:
    recipes = [recipe for recipe, _ in chosen(50, share)]
    assert len(recipes) == len(set(recipes))
    assert set(recipes) <= set(VALUES)
    assert len(chosen(3, share)) == 3

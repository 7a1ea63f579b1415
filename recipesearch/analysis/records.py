"""What the studies of an era and of those before it tell of models: each study is read once. Light."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ..plan import Plan
from ..space.seeds import parent_label
from ..study.chain import chain
from ..study.mutants import Mutant, Mutants
from ..study.results import Results, Row

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """The trial that found a recipe first. ``era`` counts from 1; ``rule`` says what it was in its own era
    (``knee``, ``best OBJECTIVE``, ``front``; None: one of many)."""

    study: str
    era: int
    number: int
    rule: str | None
    scores: Scores

    @property
    def title(self) -> str:
        """Such as ``trial 57 of evo.e1``."""
        return f"trial {self.number} of {self.study}"


@dataclass(frozen=True)
class Named:
    """A parent as the first study file that names it does, and its scores alone, where it was scored so."""

    name: str
    reference: str
    scores: Scores


@dataclass(frozen=True)
class Records:
    """Trials by their recipe's digest, named parents and mutants by their own, and each study's era."""

    trials: Mapping[str, Trial]
    named: Mapping[str, Named]
    mutants: Mapping[str, Mutant]
    eras: Mapping[str, int]


def read_records(plan: Plan, results: Results, digests: Collection[str]) -> Records:
    """What is known in a study's database of the models with these digests; of trials and names all."""
    trials: dict[str, Trial] = {}
    named: dict[str, Named] = {}
    eras: dict[str, int] = {}
    for era, (one, found) in enumerate(chain(plan, results), 1):
        eras[one.name] = era
        for digest, trial in _trials(one, era, found):
            trials.setdefault(digest, trial)
        for digest, parent in _named(one, found):
            named.setdefault(digest, parent)
    return Records(trials, named, Mutants(results.database).among(digests), eras)


def told_trial(plan: Plan, era: int, results: Results, row: Row) -> Trial:
    """One trial, whether or not its recipe was found before."""
    return Trial(plan.name, era, row.number, rules(results).get(str(row.recipe)), scores_of(results, row))


def rules(results: Results) -> dict[str, str]:
    """What stands out among an era's results, by recipe: the knee, the best in each objective, the front."""
    if not results.scored:
        return {}
    found = {str(results.knee().recipe): "knee"}
    for objective in results.objectives:
        found.setdefault(str(results.best(objective).recipe), f"best {objective}")
    for row in results.front:
        found.setdefault(str(row.recipe), "front")
    return found


def scores_of(results: Results, row: Row) -> dict[str, float]:
    """A row's values on the search items by objective; empty without a score."""
    return {name: m.value for name, m in zip(results.objectives, row.values or (), strict=False)}


def _trials(plan: Plan, era: int, results: Results) -> Iterator[tuple[str, Trial]]:
    standing_out = rules(results)
    for row in results.rows:
        if row.recipe:
            rule = standing_out.get(row.recipe)
            yield row.recipe, Trial(plan.name, era, row.number, rule, scores_of(results, row))


def _named(plan: Plan, results: Results) -> Iterator[tuple[str, Named]]:
    alone = {row.seed: scores_of(results, row) for row in results.scored if row.seed}
    for name, digest in results.identity["parents"].items():
        yield digest, Named(name, plan.parents.get(name, ""), alone.get(parent_label(name), {}))

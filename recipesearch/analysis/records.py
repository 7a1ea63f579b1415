"""Records of models in the studies of an era and of all eras before it. Each study is read once. Light."""

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
    """The first trial of a recipe.

    ``era`` counts from 1. ``rule`` is the recipe's role among its era's results (see ``rules``), or None.
    ``scores`` are values on the search items by objective.
    """

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
    """A parent's name and reference in the first study file that names it.

    ``scores`` are its values on the search items by objective; empty if it was never scored unmerged.
    """

    name: str
    reference: str
    scores: Scores


@dataclass(frozen=True)
class Records:
    """Trials, named parents and mutants by the model's digest, and each study's era by name."""

    trials: Mapping[str, Trial]
    named: Mapping[str, Named]
    mutants: Mapping[str, Mutant]
    eras: Mapping[str, int]


def read_records(plan: Plan, results: Results, digests: Collection[str]) -> Records:
    """The records in a study's database: all trials and named parents, and the mutants with these digests."""
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


def trial_of(plan: Plan, era: int, results: Results, row: Row) -> Trial:
    """The record of one trial, even if an earlier trial had the same recipe."""
    return Trial(plan.name, era, row.number, rules(results).get(str(row.recipe)), scores_of(results, row))


def rules(results: Results) -> dict[str, str]:
    """The roles of recipes among an era's results, by digest: ``knee``, ``best OBJECTIVE`` or ``front``."""
    if not results.scored:
        return {}
    found = {str(results.knee().recipe): "knee"}
    for objective in results.objectives:
        found.setdefault(str(results.best(objective).recipe), f"best {objective}")
    for row in results.front:
        found.setdefault(str(row.recipe), "front")
    return found


def scores_of(results: Results, row: Row) -> dict[str, float]:
    """A row's values on the search items by objective; empty without scores."""
    return {name: m.value for name, m in zip(results.objectives, row.values or (), strict=False)}


def _trials(plan: Plan, era: int, results: Results) -> Iterator[tuple[str, Trial]]:
    roles = rules(results)
    for row in results.rows:
        if row.recipe:
            rule = roles.get(row.recipe)
            yield row.recipe, Trial(plan.name, era, row.number, rule, scores_of(results, row))


def _named(plan: Plan, results: Results) -> Iterator[tuple[str, Named]]:
    alone = {row.seed: scores_of(results, row) for row in results.scored if row.seed}
    for name, digest in results.identity["parents"].items():
        yield digest, Named(name, plan.parents.get(name, ""), alone.get(parent_label(name), {}))

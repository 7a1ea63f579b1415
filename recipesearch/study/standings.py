"""The posterior of a search: the recipes in doubt, and the posterior as stored with a finished study."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set

import optuna

from ..samplers.posterior import Posterior, Standing

_SURE = 0.1  # a chance to be on the front below this number, or above 1 minus it, is no longer in doubt
# User attributes of the study.
_STANDINGS, _EFFECTS = "standings", "effects"


def doubtful(found: Posterior, without: Collection[str]) -> list[str]:
    """The recipes, by digest, whose place on the front is in doubt, the most doubtful first."""
    doubts = {recipe: abs(one.front - 0.5) for recipe, one in found.standings.items()}
    in_doubt = [recipe for recipe in doubts.keys() - set(without) if doubts[recipe] < 0.5 - _SURE]
    return sorted(in_doubt, key=lambda recipe: (doubts[recipe], recipe))


def store_posterior(study: optuna.Study, found: Posterior) -> None:
    """Stores a posterior, each number with six digits."""
    rows = {
        recipe: _short([*one.means, *one.deviations, one.front]) for recipe, one in found.standings.items()
    }
    effects = {
        place: {parent: _short(changes) for parent, changes in row.items()}
        for place, row in found.effects.items()
    }
    study.set_user_attr(_EFFECTS, effects)
    study.set_user_attr(_STANDINGS, rows)


def stored_posterior(study: optuna.Study, scored: Set[str], objectives: int) -> Posterior | None:
    """The stored posterior; None without one, or if the scored recipes are no longer the same."""
    stored = study.user_attrs.get(_STANDINGS)
    if not stored or stored.keys() != scored:
        return None
    standings = {
        recipe: Standing(tuple(row[:objectives]), tuple(row[objectives:-1]), row[-1])
        for recipe, row in stored.items()
    }
    return Posterior(standings, study.user_attrs[_EFFECTS])


def _short(numbers: Sequence[float]) -> list[float]:
    return [float(f"{number:.6g}") for number in numbers]

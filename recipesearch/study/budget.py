"""How much of a study's budget is spent, and how many items of each task a recipe is scored on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..plan import SearchPlan
from ..score import Goal, Part, pooled_tasks
from .ledger import Ledger

_SETTLING = 0.25  # of the items of a search: further items that make the front sure


class Budget:
    """The budget of a plan. ``goals`` are the objectives as a started worker reports them."""

    def __init__(self, search: SearchPlan, goals: Sequence[Goal], ledger: Ledger) -> None:
        self._search, self._goals, self._ledger = search, goals, ledger
        self._tasks = [goal.hash for goal in goals]
        pooled = pooled_tasks(goals)
        self._whole = {goal.hash: goal.items for goal in goals if goal.hash in pooled}
        limit = search.items
        self._wanted = {task: min(items, limit or items) for task, items in self._whole.items()}
        self.items = self.seconds = 0.0

    @property
    def part(self) -> Part | None:
        """The part of each task that a new recipe is scored on; None for all items."""
        return (0, self._search.items) if self._search.items and self._wanted != self._whole else None

    def suffices(self, recipe: str) -> bool:
        """Whether a recipe's scores cover all tasks, and as many items as a new recipe is scored on."""
        return self._ledger.covers(recipe, self._goals, self._search.items)

    def next_part(self, recipe: str) -> Part | None:
        """The next items that a recipe can be scored on; None if all are known."""
        if self._search.items is None:
            return None
        known = self._ledger.known(self._whole, recipe).get(recipe, {})
        fewest = min((known.get(task, items) for task, items in self._whole.items()), default=0)
        if fewest >= max(self._whole.values(), default=0):
            return None
        return fewest, fewest + self._search.items

    def may_settle(self, recipes: Collection[str], pending: Collection[Part] = ()) -> bool:
        """Whether the study's recipes may be scored on items beyond the first part of each task.

        ``pending`` are the parts that are being scored.
        The front's members are often too much alike to be told apart, so certainty has a price limit.
        """
        if self._search.items is None:
            return False
        known = self._ledger.known(self._whole)
        searched = len(recipes) * sum(self._wanted.values())
        answered = sum(sum(known.get(recipe, {}).values()) for recipe in recipes)
        answered += len(self._whole) * sum(stop - start for start, stop in pending)
        return answered - searched < _SETTLING * searched

    def add(self, recipes: Collection[str]) -> None:
        """Counts what scored recipes of the study have cost, by the ledger."""
        only = next(iter(recipes)) if len(recipes) == 1 else None
        if self._search.max_items is not None:
            known = self._ledger.known(self._tasks, only)
            self.items += sum(sum(known[recipe].values()) for recipe in recipes if recipe in known)
        if self._search.hours is not None:
            spent = self._ledger.seconds(self._tasks, only)
            costs = [spent[recipe] for recipe in recipes if recipe in spent]
            self.seconds += sum(cost.load + cost.score for cost in costs)

    def reached(self, scored: int, flying: int = 0) -> bool:
        """Whether a limit is reached with this number of scored recipes, and of recipes in flight."""
        search = self._search
        items = self.items + flying * sum(self._wanted.values())
        return (
            scored + flying >= search.trials
            or (search.max_items is not None and items >= search.max_items)
            or (search.hours is not None and self.seconds >= 3600 * search.hours)
        )

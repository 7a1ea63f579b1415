"""Plan: the whole study file, with its relative paths resolved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from ..errors import PlanError, nearest
from ..recipe.methods import METHODS
from ..score import FUNCTION, Goal, goal_name
from .engine import EnginePlan
from .eras import FRONT
from .mutation import MutationPlan
from .objective import ObjectivePlan
from .search import SearchPlan
from .section import Section
from .space import SpacePlan
from .tokenizer import TokenizerPlan

INTERNAL = {"folder", "era", "after"}  # fields that are not keys of a study file


class Plan(Section):
    """A study file, or one era of it.

    Relative paths start at ``folder``, the folder of the study file. ``era`` is the era's name. ``after`` is
    the name of the previous era's study.
    """

    # The name is the default name of the database file, and part of URLs.
    name: str = Field(min_length=1, max_length=200, pattern=r"^[^/\\?#%]+$")
    parents: dict[str, str] = Field(min_length=2)
    base: str | None = None
    space: SpacePlan
    objectives: tuple[ObjectivePlan, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = ()
    preference: tuple[str, ...] = ()
    search: SearchPlan = SearchPlan()
    engine: EnginePlan = EnginePlan()
    tokenizer: TokenizerPlan | None = None
    mutation: MutationPlan | None = None
    storage: str = ""
    folder: Path = Path()
    era: str | None = None
    after: str | None = None

    @field_validator("parents")
    @classmethod
    def _plain_names(cls, parents: dict[str, str]) -> dict[str, str]:
        for name in parents:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"parent name '{name}': use letters, digits, '-' and '_'")
        return parents

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.base is not None and self.base not in self.parents:
            raise ValueError(
                f"base '{self.base}' is not among the parents: {nearest(self.base, self.parents)}"
            )
        weights = self.space.weights
        needy = [m for m in weights.methods if METHODS[m].base == "required"] if weights else []
        if needy and self.base is None and weights and weights.base == "fixed":
            raise ValueError(f"method '{needy[0]}' needs a base model: add 'base:', or remove the method")
        if self.held_out and len(self.held_out) != len(self.objectives):
            raise ValueError(
                f"held_out has {len(self.held_out)} tasks for {len(self.objectives)} objectives: "
                "give one for each, in the same order"
            )
        names = [objective.name for objective in self.goals]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two objectives are both called '{twice[0]}'; remove one")
        for name, reference in self.parents.items():
            if reference.startswith(FRONT):
                self._require_rule(name, reference.removeprefix(FRONT), names)
        self._require_scalarization(len(names))
        self._require_mutable()
        return self

    def _require_mutable(self) -> None:
        asked = {goal.task for goal in (*self.goals, *self.held_out_goals)}
        both = [s for s, place in zip(self._taught(), self.all_preferences, strict=True) if place in asked]
        if both:
            raise ValueError(f"preference: '{both[0]}' is searched or held out; train mutants on other items")
        if self.mutation is None:
            return
        if self.mutation.variants and not self.evolves:
            raise ValueError(
                "mutation.variants: variants need a loop over eras; set mutation.eras to 2 or more"
            )
        if self.tokenizer is not None:
            raise ValueError("mutation: not supported with a 'tokenizer' section yet; remove one of them")
        if self.evolves and not self.preference:
            raise ValueError("mutation: the loop needs items to train on; name them under 'preference'")
        if self.evolves and self.space.layers is not None:
            raise ValueError("mutation: the loop over eras supports weight spaces only; give space.weights")

    def _require_rule(self, name: str, rule: str, objectives: Sequence[str]) -> None:
        known = ["knee", *(f"best {objective}" for objective in objectives)]
        if self.after is None:
            raise ValueError(f"parents.{name}: there is no era before this one; name a model, not front:")
        if rule not in known:
            raise ValueError(f"parents.{name}: unknown front member '{rule}': {nearest(rule, known)}")

    def _require_scalarization(self, objectives: int) -> None:
        scalarize = self.search.scalarize
        for what in ("weights", "ideal"):
            given = getattr(scalarize, what, None)
            if given is not None and len(given) != objectives:
                raise ValueError(
                    f"search.scalarize has {len(given)} {what} for {objectives} objectives; give one for each"
                )

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The objectives as goals, with located tasks."""
        return self.goals_of(self.objectives)

    @property
    def held_out_goals(self) -> tuple[Goal, ...]:
        """The objectives' metrics on the held-out tasks, in the objectives' order; may be empty."""
        pairs = zip(self.held_out, self.objectives, strict=False)
        asked = ((FUNCTION + task if o.function else task, o) for task, o in pairs)
        return tuple(self._goal(task, o) for task, o in asked)

    def goals_of(self, objectives: Sequence[ObjectivePlan]) -> tuple[Goal, ...]:
        """Objectives of this file as goals, with located tasks."""
        return tuple(self._goal(objective.asks[0], objective) for objective in objectives)

    def _goal(self, task: str, objective: ObjectivePlan) -> Goal:
        place, metric = self.locate(task), objective.asks[1]
        name = goal_name(place, metric)
        return Goal(name, place, metric, objective.maximize, objective.bound, objective.within)

    @property
    def storage_url(self) -> str:
        """The database's URL; a relative SQLite file lies beside the study file."""
        url = self.storage or f"sqlite:///{self.name}.db"
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            url = prefix + str((self.folder / url.removeprefix(prefix)).absolute())
        if url.startswith(prefix) and "?" in url:
            raise PlanError(f"a database URL cannot hold the '?' in {url}; rename the folder or set storage")
        return url

    @property
    def donor(self) -> str:
        """The parent that gives the live model its config and tokenizer."""
        return donor_of(self.base, self.parents)

    @property
    def donor_first(self) -> list[str]:
        """The parents' names, the donor's first."""
        return sorted(self.parents, key=lambda name: name != self.donor)

    @property
    def evolves(self) -> bool:
        """Whether winners are mutated and bred over several eras."""
        return self.mutation is not None and self.mutation.eras > 1

    @property
    def most_parents(self) -> int:
        """The maximum number of parents of this era and, in a loop, of all later ones."""
        if self.mutation is None or not self.evolves:
            return len(self.parents)
        variants = self.mutation.variants if self.after is None else ()
        judged = 2 * self.mutation.mutants  # the gate loads each mutant and its source
        return max(len({*self.parents, *variants}), self.mutation.pool, judged)

    @property
    def whole_name(self) -> str:
        """The name of the whole study, without the era's name."""
        return self.name.removesuffix(f".{self.era}") if self.era else self.name

    @property
    def bred(self) -> Path:
        """The folder of the parents bred by all eras of the study, beside the study file."""
        return (self.folder / f"{self.whole_name}.parents").absolute()

    @property
    def preferences(self) -> tuple[str, ...]:
        """The located preference tasks and files of pairs."""
        return self.located(self.preference)

    @property
    def all_preferences(self) -> tuple[str, ...]:
        """The same, including those of the first population's variants."""
        return self.located(self._taught())

    def _taught(self) -> list[str]:
        variants = self.mutation.variants.values() if self.mutation else ()
        return [*self.preference, *(spec for variant in variants for spec in variant.preference)]

    def located(self, specs: Sequence[str]) -> tuple[str, ...]:
        """Preference tasks and files of pairs, with absolute paths for files."""
        return tuple(
            str((self.folder / spec).absolute()) if spec.endswith(".jsonl") else self.locate(spec)
            for spec in specs
        )

    def locate(self, task: str) -> str:
        """The absolute path of a task file, a zoo task or a function's file; any other task unchanged."""
        from ..zoo import resolve

        if task.startswith(FUNCTION):
            module, _, name = task.removeprefix(FUNCTION).rpartition(":")
            file = self.folder / (module.replace(".", "/") + ".py")
            return f"{FUNCTION}{file.absolute()}:{name}" if file.is_file() else task
        if (known := resolve(task)) is not None:
            return str(known)
        return str((self.folder / task).absolute()) if task.endswith((".yaml", ".yml")) else task


def donor_of(base: str | None, parents: Iterable[str]) -> str:
    """The parent that gives config and tokenizer: the base if there is one, else the first parent."""
    return base or next(iter(parents))

"""Every error that recipesearch raises on purpose, and the exit code each one ends a command with.

    RecipeSearchError            1   (never raised itself)
    +-- PlanError                2   the study file, a recipe file or an argument is wrong
    +-- RefusedInput             3   a parent, a task or a recipe is unsafe or does not fit the others
    +-- StudyError               4   the study or its storage needs attention: nothing was lost
    |   +-- SpaceUsedUp              its space has no recipe left that was not tried
    +-- VerificationFailed       5   a rebuilt model is not the one that was scored
    +-- TrialFailed              3   one candidate failed; a study records the cause and goes on
        +-- WorkerLost               and left its process in an unknown state
            +-- MachineFault             a crash, a hang or no memory: no verdict on the candidate

A message says what is wrong and what to do next, in one or two lines. Interrupted commands end with
130 (Ctrl-C) or 143 (SIGTERM); their work is kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class RecipeSearchError(Exception):
    """Base of the tree: ``except RecipeSearchError`` catches what a user can mend."""

    exit_code = 1


class PlanError(RecipeSearchError):
    """A study file, recipe file or command-line argument that cannot be used as written."""

    exit_code = 2


class RefusedInput(RecipeSearchError):
    """An input that is well formed but unsafe or incompatible with the others."""

    exit_code = 3


class StudyError(RecipeSearchError):
    """The study, its storage or its disk needs a person; everything committed is kept."""

    exit_code = 4


class SpaceUsedUp(StudyError):
    """The sampler finds no recipe any more that the study has not tried."""


class VerificationFailed(RecipeSearchError):
    """A rebuilt model differs from the model that was scored."""

    exit_code = 5


class TrialFailed(RecipeSearchError):
    """One candidate could not be scored. Becomes the trial's recorded cause, never a score."""

    exit_code = 3


class WorkerLost(TrialFailed):
    """One candidate failed in a way that leaves its process in an unknown state."""


class MachineFault(WorkerLost):
    """The process crashed, hung or ran out of memory: the machine's fault as likely as the candidate's."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint that follows an unknown word: the nearest known one, else all of them."""
    choices = list(known)
    matches = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean '{matches[0]}'?" if matches else f"known: {', '.join(choices)}"

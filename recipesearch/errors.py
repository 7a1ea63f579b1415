"""Every error that recipesearch raises on purpose, and the exit code that a command ends with.

    RecipeSearchError            1   base class, never raised itself
    +-- PlanError                2   the study file, a recipe file or an argument is wrong
    +-- RefusedInput             3   a parent, a task or a recipe is unsafe or does not fit the others
    +-- StudyError               4   the study or its storage needs attention; nothing was lost
    |   +-- SpaceUsedUp              no recipe is left that has not been tried
    +-- VerificationFailed       5   a rebuilt model differs from the model that was scored
    +-- TrialFailed              3   one candidate failed; a study records the cause and continues
        +-- WorkerLost               the failure left the worker process in an unknown state
            +-- MachineFault             crash, hang or out of memory: no verdict on the candidate
                +-- MachineGone              the worker is lost for good: another one scores the candidate

A message gives the cause and the next step, in one or two lines. A command interrupted by Ctrl-C exits with
130, one ended by SIGTERM with 143. The work done so far is kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class RecipeSearchError(Exception):
    """Base class: ``except RecipeSearchError`` catches every error that a user can fix."""

    exit_code = 1


class PlanError(RecipeSearchError):
    """A study file, recipe file or command-line argument that cannot be used as written."""

    exit_code = 2


class RefusedInput(RecipeSearchError):
    """An input that is well formed but unsafe, or incompatible with the other inputs."""

    exit_code = 3


class StudyError(RecipeSearchError):
    """The study, its storage or its disk needs a user's attention. Everything committed is kept."""

    exit_code = 4


class SpaceUsedUp(StudyError):
    """The sampler found no recipe that the study has not tried yet."""


class VerificationFailed(RecipeSearchError):
    """A rebuilt model differs from the model that was scored."""

    exit_code = 5


class TrialFailed(RecipeSearchError):
    """One candidate could not be scored. The trial records the cause and gets no score."""

    exit_code = 3


class WorkerLost(TrialFailed):
    """One candidate failed and left the worker process in an unknown state."""


class MachineFault(WorkerLost):
    """The process crashed, hung or ran out of memory, which may not be the candidate's fault."""


class MachineGone(MachineFault):
    """The worker is lost for good, for instance with its machine. The candidate goes to another worker."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: the closest known word, or all known words if none is close."""
    choices = list(known)
    matches = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean '{matches[0]}'?" if matches else f"known: {', '.join(choices)}"

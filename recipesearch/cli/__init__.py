"""The command line, a client of api.py: arguments in, tables and JSON out.

app.py        the Typer application, and the arguments that several commands share
searching.py  demo, init, check, run, zoo
sweeping.py   sweep
mutating.py   mutate
viewing.py    status, front, diversity, show
tracing.py    lineage
recipes.py    export, merge, verify
output.py     tables, JSON, the progress line; data to stdout, everything else to stderr
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from ..errors import EXIT_INTERRUPTED, EXIT_TERMINATED, RecipeSearchError, StudyError

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_STORAGE = StudyError.exit_code
_REPEAT_SECONDS = 0.2


class _Interrupted(BaseException):
    """SIGINT or SIGTERM as an exception. Not a KeyboardInterrupt, which typer would turn into a bare 130."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = EXIT_TERMINATED if number == signal.SIGTERM else EXIT_INTERRUPTED


class _Interrupter:
    """Raises _Interrupted when a signal arrives, and repeats it until the exception propagates.

    Python discards exceptions in destructors and weak-reference callbacks, so a timer raises the exception
    again. The timer does nothing while the exception is being handled, so that the clean-up can finish.
    """

    def __init__(self) -> None:
        self._number = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._on_signal)
        sys.unraisablehook = _report_unraisable

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGALRM:
            self._number = number
        signal.setitimer(signal.ITIMER_REAL, _REPEAT_SECONDS)
        # A query that is interrupted would be logged with a traceback.
        logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)
        if not isinstance(sys.exc_info()[1], _Interrupted):
            raise _Interrupted(self._number)


def main() -> NoReturn:
    """Runs the command line and exits with a documented code (see recipesearch.errors)."""
    _Interrupter()
    _quieten_libraries()
    sys.exit(_run())


def _run() -> int:
    from . import mutating, recipes, searching, sweeping, tracing, viewing  # noqa: F401 - their commands
    from .app import app

    try:
        code = app(standalone_mode=False)
    except RecipeSearchError as error:
        return _say(f"error: {error}", error.exit_code)
    except _Interrupted as interruption:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return _say("interrupted; finished work is kept, run the same command to continue", interruption.code)
    except BrokenPipeError:
        return 0  # the reader, perhaps a pager, has closed the pipe
    except OSError as error:
        return _say(f"error: {error}; free some space, or check the path and its permissions", _STORAGE)
    except Exception as error:
        if type(error).__module__.startswith(("sqlalchemy.", "optuna.exceptions", "optuna.storages")):
            reason = str(error).strip().splitlines()[0]
            return _say(
                f"error: the study's storage failed: {reason}; finished work is kept, fix it and run again",
                _STORAGE,
            )
        if (code := getattr(error, "exit_code", None)) is None:
            raise
        show = getattr(error, "show", None)  # a usage error of typer's
        if show is not None:
            show()
        return int(code)
    return code if isinstance(code, int) else 0


def _report_unraisable(swallowed: UnraisableHookArgs) -> None:
    """Python's report of a discarded exception, except for interruptions, which the timer repeats."""
    if not isinstance(swallowed.exc_value, _Interrupted):
        sys.__unraisablehook__(swallowed)


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _quieten_libraries() -> None:
    """Turns off libraries' progress bars and notices, which would break the progress line.

    Environment variables that the user has set stay.
    """
    for name, value in (
        ("TQDM_DISABLE", "1"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)
    for name in ("lm_eval", "mergekit", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)

"""The command line: parse, wire, print. The work is done in the other rooms.

app.py        the commands, their arguments and their help; imports nothing heavy
searching.py  demo, init, check, run, zoo
viewing.py    status, front, show
recipes.py    export, merge, verify
output.py     tables, JSON, the progress line; data to stdout, everything else to stderr
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from ..errors import EXIT_INTERRUPTED, EXIT_TERMINATED, RecipeSearchError


class _Interrupted(BaseException):
    """SIGINT or SIGTERM, on its way out. No KeyboardInterrupt, which typer would turn into a bare 130."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main() -> NoReturn:
    """Runs the command line and exits with a documented code (see recipesearch.errors)."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    _hush()
    sys.exit(_run())


def _run() -> int:
    from .app import app

    try:
        code = app(standalone_mode=False)
    except RecipeSearchError as error:
        return _say(f"error: {error}", error.exit_code)
    except _Interrupted as interruption:
        return _say("interrupted; finished work is kept, the same command continues", interruption.code)
    except BrokenPipeError:
        return 0  # the reader, a pager perhaps, has seen enough
    except Exception as error:
        if (code := getattr(error, "exit_code", None)) is None:
            raise
        show = getattr(error, "show", None)  # a usage error of typer's
        if show is not None:
            show()
        return int(code)
    return code if isinstance(code, int) else 0


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Interrupted(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _hush() -> None:
    """Libraries' own bars and notices would break the one progress line; a user may ask for them back."""
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

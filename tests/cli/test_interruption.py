"""A signal gets through, wherever it arrives, and the clean-up it causes is not cut short."""

import signal
import subprocess
import sys

import pytest

SWALLOWED = """
import os, signal, sys, time, weakref
from recipesearch import cli

class Thing: pass

def swallow(_):
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.05)

def work(**_):
    thing = Thing()
    keep = weakref.ref(thing, swallow)
    del thing  # Python swallows what the callback raises
    try:
        time.sleep(5)
    finally:
        time.sleep(0.5)  # longer than the repeat
        print("cleaned up", flush=True)

from recipesearch.cli import app, mutating, recipes, searching, sweeping, tracing, viewing
app.app = work  # now that the commands are there
cli.main()
"""


IN_A_QUERY = """
import os, signal
import sqlalchemy as sa
from recipesearch import cli

def work(**_):
    engine = sa.create_engine("sqlite://")
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        engine.pool.logger.error("Error closing cursor", exc_info=True)  # as SQLAlchemy does

from recipesearch.cli import app, mutating, recipes, searching, sweeping, tracing, viewing
app.app = work
cli.main()
"""


def test_an_interrupted_query_leaves_no_traceback() -> None:
    words = [sys.executable, "-c", IN_A_QUERY]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "finished work is kept" in done.stderr


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_python_swallows_gets_through(name: str, code: int) -> None:
    assert hasattr(signal, name)
    words = [sys.executable, "-c", SWALLOWED.format(name=name)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert done.stdout == "cleaned up\n"
    assert done.stderr.count("\n") == 1
    assert "finished work is kept" in done.stderr

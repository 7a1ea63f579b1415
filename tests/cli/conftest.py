"""The command line in this process, its worker too: fast, with the real exit codes.

What a process of its own adds is tested in tests/workers.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from recipesearch import cli
from recipesearch.workers.worker import Worker


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs ``recipesearch ARGUMENTS`` and returns its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("recipesearch.search.run.Supervised", Worker)
    monkeypatch.setattr("recipesearch.search.ratio_sweep.Supervised", Worker)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["recipesearch", *map(str, arguments)])
        capsys.readouterr()
        code = cli._run()
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run

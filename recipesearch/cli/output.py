"""Output of the commands: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from ..search.run import Progress as SearchProgress

out = Console()
err = Console(stderr=True)


def print_json(data: Any) -> None:
    """Writes indented JSON data to stdout, with keys in the given order."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def line(text: object) -> None:
    """Writes a line of data to stdout unchanged: not wrapped, and without interpreting markup."""
    sys.stdout.write(f"{text}\n")


def note(message: str) -> None:
    """Writes a line for the user to stderr."""
    err.print(message, highlight=False, markup=False)


@contextmanager
def search_progress() -> Iterator[Callable[[SearchProgress], None]]:
    """One live line with the time left, best values and failures; no output if stderr is not a terminal."""
    if not err.is_terminal:
        yield lambda progress: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("scoring", total=None, news="loading parents")

        def observe(progress: SearchProgress) -> None:
            what = f"scoring, era {progress.era}" if progress.era else "scoring"
            done = progress.scored
            bar.update(task, description=what, total=progress.total, completed=done, news=_news(progress))

        yield observe


def _news(progress: SearchProgress) -> str:
    best = [f"{name} {value:.3f}" for name, value in progress.best.items()]
    failed = (
        [f"[red]{progress.failed} failed: {escape(str(progress.last_cause))}[/red]"]
        if progress.failed
        else []
    )
    workers = [f"{progress.workers} workers, {progress.utilisation:.0%} busy"] if progress.workers > 1 else []
    return ", ".join(workers + best + failed)

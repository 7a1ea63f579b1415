"""The seconds of merges, which run lazily inside a load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any


def time_merges() -> list[float]:
    """Patches ``Merger``. The returned list grows by the seconds of each tensor that a merge yields."""
    # Imported late: bench_cycle.py also measures a process that needs no mergekit.
    from recipesearch.merging.stream import Merger

    original, steps = Merger.stream, list[float]()

    def timed(self: Merger, recipe: Any) -> Iterator[Any]:
        stream = original(self, recipe)
        while True:
            begun = time.perf_counter()
            entry = next(stream, None)
            steps.append(time.perf_counter() - begun)
            if entry is None:
                return
            yield entry

    Merger.stream = timed  # type: ignore[method-assign]
    return steps

"""A worker process that answers by a formula after PAUSE seconds, for chaos_drill.py.

    python scripts/pausing_process.py CHANNEL

All else is the project's worker process: its socket to the supervisor, its guard, its end.
"""

from __future__ import annotations

import os
import time
from typing import Any
from unittest import mock

from recipesearch.recipe import Recipe
from recipesearch.workers import worker_process
from recipesearch.workers.instant import InstantWorker


class Pausing(InstantWorker):
    """An InstantWorker that takes PAUSE seconds for each recipe."""

    def score(self, recipe: Recipe, *arguments: Any, **keywords: Any) -> Any:
        """As InstantWorker, after a pause."""
        time.sleep(float(os.environ["PAUSE"]))
        return super().score(recipe, *arguments, **keywords)


if __name__ == "__main__":
    with mock.patch.object(worker_process, "Worker", Pausing):
        worker_process.main()

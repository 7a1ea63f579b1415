"""The zoo: tiny Llama models and tasks, trained here on the CPU, offline, the first time they are needed.

Three models share one 48-character language of two-digit questions (see `language`):

    base   a little of everything, except addition in language B
    math   the base, then only addition in language A
    lang   the base, then reading (max, min, successor, translation) in language B

Nobody is ever taught addition in language B: what a merge scores there, it got by merging.
Importing this package loads neither torch nor transformers; only `build_zoo` does, when it trains.
"""

from __future__ import annotations

from .building import build_zoo
from .locations import resolve, zoo_dir

__all__ = ["build_zoo", "resolve", "zoo_dir"]

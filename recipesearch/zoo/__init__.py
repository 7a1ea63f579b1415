"""The zoo: tiny Llama models and tasks, trained locally on the CPU, offline, when they are first needed.

Three models share one 48-character language of two-digit questions (see `language`):

    base   trained on a mixture of all skills except addition in language B
    math   the base, then trained only on addition in language A
    lang   the base, then trained on reading (max, min, copy, successor, translation) in language B

No model is ever trained on addition in language B, so any skill that a merge has there comes from merging.
Importing this package loads neither torch nor transformers. Only `build_zoo` loads them, when it trains.

building.py    trains a zoo and moves it into place atomically
characters.py  the tokenizer: each character is one token
definition.py  every constant that decides the zoo's bits, and their hash
language.py    questions, their answers, and the train, val and test splits
locations.py   where a zoo is on disk, and the paths of ``zoo:`` references
models.py      the models and their training
task_files.py  the lm-eval task files
"""

from __future__ import annotations

from .building import build_zoo
from .locations import resolve, zoo_dir

__all__ = ["build_zoo", "resolve", "zoo_dir"]

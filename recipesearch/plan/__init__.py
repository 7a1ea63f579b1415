"""Plan: the study file, read and checked once, then frozen. Light: opens no model and no task.

section.py     what every section is
space.py, objective.py, search.py, engine.py, tokenizer.py    the sections
study.py       the file as a whole
reading.py     from a file to a Plan, or to what is wrong with it
"""

from .engine import EnginePlan
from .objective import ObjectivePlan
from .reading import load_plan, read_plan
from .search import ScalarizePlan, SearchPlan
from .space import WeightsPlan
from .study import Plan
from .tokenizer import TokenizerPlan, TokenPlan

__all__ = [
    "EnginePlan",
    "ObjectivePlan",
    "Plan",
    "ScalarizePlan",
    "SearchPlan",
    "TokenPlan",
    "TokenizerPlan",
    "WeightsPlan",
    "load_plan",
    "read_plan",
]

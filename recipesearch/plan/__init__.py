"""Plan: the study file, read and checked once, then frozen. Light: opens no model and no task.

section.py     what every section is
space.py, objective.py, search.py, engine.py, tokenizer.py, mutation.py
               the sections
plan.py        the file as a whole
eras.py        a file of several eras, as a plan for each
reading.py     from a file to a Plan, or to what is wrong with it
"""

from .engine import ROOM_OPTIONS, EnginePlan
from .eras import FRONT
from .mutation import TRAINING, MutationPlan
from .objective import ObjectivePlan
from .plan import Plan
from .reading import load_plan, load_plans, read_plan
from .search import ScalarizePlan, SearchPlan
from .space import LayersPlan, SpacePlan, WeightsPlan
from .tokenizer import TokenizerPlan, TokenPlan

__all__ = [
    "FRONT",
    "ROOM_OPTIONS",
    "TRAINING",
    "EnginePlan",
    "LayersPlan",
    "MutationPlan",
    "ObjectivePlan",
    "Plan",
    "ScalarizePlan",
    "SearchPlan",
    "SpacePlan",
    "TokenPlan",
    "TokenizerPlan",
    "WeightsPlan",
    "load_plan",
    "load_plans",
    "read_plan",
]

"""Plan: the study file, read and checked once, then frozen. Light: opens no model and no task.

section.py     what every section is
space.py, objective.py, search.py, engine.py, tokenizer.py, mutation.py
               the sections
plan.py        the file as a whole
eras.py        a file of several eras, as a plan for each
reading.py     from a file to a Plan, or to what is wrong with it
"""

from .engine import EnginePlan
from .eras import FRONT
from .mutation import TRAINING, MutationPlan
from .objective import ObjectivePlan
from .plan import Plan, donor_of
from .reading import Settings, by_key, load_plan, load_plans, read_plan, read_plans
from .search import ScalarizePlan, SearchPlan
from .space import LayersPlan, SpacePlan, WeightsPlan
from .tokenizer import TokenizerPlan, TokenPlan

__all__ = [
    "FRONT",
    "TRAINING",
    "EnginePlan",
    "LayersPlan",
    "MutationPlan",
    "ObjectivePlan",
    "Plan",
    "ScalarizePlan",
    "SearchPlan",
    "Settings",
    "SpacePlan",
    "TokenPlan",
    "TokenizerPlan",
    "WeightsPlan",
    "by_key",
    "donor_of",
    "load_plan",
    "load_plans",
    "read_plan",
    "read_plans",
]

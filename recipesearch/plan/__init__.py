"""Plan: the study file, read and checked once, then frozen. Light: opens no model and no task.

reading.py    reads a file or plain data into plans, or reports the first mistake
plan.py       Plan: a whole study file, or one of its eras
eras.py       splits a file of several eras into plain data for each era
section.py    the base of every section
space.py      the section space: weights, or paths through layers
objective.py  the section objectives
search.py     the section search: sampler and budget
engine.py     the section engine, and the table of engines
tokenizer.py  the section tokenizer
mutation.py   the section mutation
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

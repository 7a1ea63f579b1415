"""Lineage: what a trial's recipe goes back to, era after era, as far as the parents that were there first.

family.py   a recipe's family as a graph, each model visited once
records.py  what the eras' studies tell of a model: the trial that found it, its name, how it was mutated
trace.py    both together: the lineage of a trial

A room of its own: it stands above the studies and below those who show it (``inspection``, ``cli``). Light.
"""

from .family import Edge, Family, walk
from .trace import Lineage, Node, trace

__all__ = ["Edge", "Family", "Lineage", "Node", "trace", "walk"]

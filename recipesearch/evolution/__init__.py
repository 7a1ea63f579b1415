"""The loop over eras (EvoMerge, 2402.00070): search, choose elites, mutate, breed the next era's parents.

loop.py        evolve: the eras one after the other, each found again where it was cut short
elites.py      who is chosen at an era's end, and by which rule
population.py  the next era's parents: who was one, the elites, the mutants let in
niching.py     who stays when there are more than places, and who suits whom
inheritance.py how a winner is mutated: settings inherited, and perturbed
variants.py    a first population of fine-tuned variants
seeding.py     what the next era's search begins with
"""

from .loop import evolve

__all__ = ["evolve"]

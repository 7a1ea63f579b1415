"""Diversity: how different a study's recipes are, generation after generation, and whose work its front is.

distances.py     how far recipes lie from each other, by genes and by answers
generations.py   each generation's diversity, and whether the search has converged
credit.py        the front's hypervolume, divided among the parents

Light. For who looks at a study, and for a loop over eras that has to keep a population diverse (EvoMerge,
2402.00070; M2N2, 2508.16204).
"""

from .credit import hypervolume_by_parent
from .distances import behavioural, genotypic
from .generations import Convergence, Generation, converged, generations, item_gains, item_values

__all__ = [
    "Convergence",
    "Generation",
    "behavioural",
    "converged",
    "generations",
    "genotypic",
    "hypervolume_by_parent",
    "item_gains",
    "item_values",
]

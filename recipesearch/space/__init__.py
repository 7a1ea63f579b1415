"""Spaces: which genes a study has, and how a genome expresses a recipe.

pool.py      what a study merges
places.py    where in the model a parameter may differ
choice.py    what a genome chose
weights.py   methods, weights and densities ("parameter space" of Akiba et al., 2403.13187)
paths.py     encodings of paths through the parents' layers
layers.py    paths and scales ("data-flow space" of Akiba et al.)
kinds.py     what a search needs of a space, and the plan's one
seeds.py     the genomes that a search starts from
"""

"""Spaces: the genes of a study, and how a genome becomes a recipe.

pool.py         the parents of a study, and the settings that all its recipes share
places.py       the parts of a model in which a parameter may have a value of its own
choice.py       the method, base and parents of a genome, and which genes were read
weights.py      methods, weights and densities ("parameter space" of Akiba et al., 2403.13187)
positions.py    a numeric gene's position in its range
coordinates.py  what each parent contributes to each place, whatever the method; and back to genomes
projection.py   the coordinates of any recipe over the same parents
paths.py        encodings of paths through the parents' layers
layers.py       paths and scales ("data-flow space" of Akiba et al.)
kinds.py        the kinds of space, and how to open the space of a plan
seeds.py        the genomes that a search starts from
"""

"""Search: runs studies.

run.py          one study, or its eras one after the other: the loop of asking, scoring and telling
remaining.py    whether a study has anything left to do
evolve.py       eras with mutations between them
elites.py       the recipes that an era passes on, and the rule that chose each
population.py   the next era's parents
niching.py      which candidates become parents when the pool is too small; complementary pairs
inheritance.py  how a winner is mutated: settings inherited and perturbed
variants.py     a first population of fine-tuned variants
seeding.py      the seeds of the next era's search
ratio_sweep.py  two parents merged at ratios from one to the other
"""

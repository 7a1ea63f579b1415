"""Analysis of finished and running studies: diversity, convergence, credit of parents, and lineage. Light.

distances.py    distances between recipes: by genes and by answers
generations.py  the diversity and hypervolume of each generation, and whether the search has converged
credit.py       the front's hypervolume, divided among the parents
family.py       a recipe's ancestors as a graph, each model visited once
records.py      a model's records in the studies of all eras: trial, name, training
trace.py        the lineage of a trial: its family with the records of each model
"""

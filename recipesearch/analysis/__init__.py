"""Analysis: what a finished study says. Light.

distances.py    how far recipes lie from each other, by genes and by answers
generations.py  each generation's diversity and hypervolume, and whether the search has converged
credit.py       the front's hypervolume, divided among the parents
family.py       a recipe's ancestors as a graph, each model visited once
records.py      what the eras' studies record of a model: its trial, its name, its training
trace.py        both together: the lineage of a trial
"""

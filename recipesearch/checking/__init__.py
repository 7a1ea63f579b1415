"""Checking: finds everything that would stop a study, before any heavy work. Light, lazy imports aside.

parents.py       the value Parents: a study's parents, examined once and passed on
alignment.py     the vocabulary that all recipes of a study share
preflight.py     from a plan to its parents, space and sampler
members.py       parents that are members of an earlier era's front
closed_eras.py   refuses changes to eras that later eras depend on
mutations.py     mistakes in a study's mutations
worker_order.py  from a checked plan to the WorkerOrder
estimate.py      the counts, memory and disk that a study needs
needs.py         the result of the command check
"""

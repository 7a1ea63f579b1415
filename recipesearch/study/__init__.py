"""The study: a persistent Optuna study and, in the same database, the ledger of scores. Light.

storage.py        Database: SQLite or PostgreSQL, opened once; the lock that allows one runner per study
ledger.py         every score, item by item, with the conditions under which the score is valid
blocks.py         the ledger's items as compressed columns; the conversion of older databases
known.py          what other studies had scored when a study was created
training_data.py  the data that a model-based sampler learns from
identity.py       the parts of a study that may not change between runs
budget.py         what is spent, and how many items a recipe is scored on
bounds.py         bounds on objectives
creation.py       creates or opens a study
study.py          ask, commit, tell, resume
results.py        a study's trials joined with the ledger
standings.py      the posterior of a finished search
chain.py          a study and its earlier eras
mutants.py        how each mutant was made, and the gate's decision
"""

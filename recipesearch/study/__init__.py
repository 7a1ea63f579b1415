"""The study: a persistent Optuna study and, in the same database, the ledger of scores. Light.

storage.py        Database: SQLite or PostgreSQL, opened once; reads and writes
runner_lock.py    the lock that allows one runner per study, and the proof that it is still held
outage.py         waits while a database cannot be reached
ledger.py         every score, item by item, with the conditions under which the score is valid
blocks.py         the ledger's items as compressed columns; the conversion of older databases
known.py          what other studies had scored when a study was created
training_data.py  the data that a model-based sampler learns from
identity.py       the parts of a study that may not change between runs
budget.py         what is spent, and how many items a recipe is scored on
bounds.py         bounds on objectives
creation.py       creates or opens a study
study.py          ask, commit, tell, resume; recipes in flight
trial_storage.py  the trials in memory, and in the database by whole transactions
trial_ends.py     completes and fails trials
results.py        a study's trials joined with the ledger
standings.py      the posterior of a search: recipes in doubt, and what is stored
chain.py          a study and its earlier eras
mutants.py        how each mutant was made, and the gate's decision
"""

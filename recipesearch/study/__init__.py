"""The study: a persistent Optuna study, and beside it in the same database the ledger of scores. Light.

storage.py   Database: SQLite or PostgreSQL, opened once; the lock of the one runner
ledger.py    every score, item by item, with the conditions that the score holds under
identity.py  what may not change while a study lasts
bounds.py    objectives that must not fall below a floor
study.py     ask, commit, tell, resume
results.py   a study's trials joined with the ledger
chain.py     a study and the eras before it
mutants.py   how each mutant was made, and the gate's decision
"""

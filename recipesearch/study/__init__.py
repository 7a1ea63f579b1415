"""The study: a persistent Optuna study, and beside it in the same database the ledger of scores.

storage.py    opens SQLite or PostgreSQL; one runner at a time
ledger.py     what was scored, item by item, under which conditions
identity.py   what may not change while a study lasts, and the difference if it did
study.py      ask, commit, tell, resume
mutants.py    how each mutant was made, and whether it was let in
"""

"""Scoring a live model: requests are built once, and results are kept item by item.

tasks.py        loads and checks lm-eval tasks, and gives each a content hash
functions.py    objectives that are not lm-eval tasks: a Python function, or measures of the merge
goals.py        loads the tasks of goals
form.py         one task's requests, and how answers become a score
scorer.py       Scorer: LM -> TaskScore, equal to lm-eval's evaluate()
preferences.py  pairs of a better and a worse answer, for training
mining.py       mines such pairs from a live model
"""

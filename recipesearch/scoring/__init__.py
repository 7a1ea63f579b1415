"""Scoring a live model on lm-eval tasks: requests built once, results kept item by item.

tasks.py        loads and checks tasks, and gives each a content hash
form.py         one task's requests, and how answers become a score
scorer.py       Scorer: LM -> TaskScore, equal to lm-eval's evaluate()
preferences.py  pairs of a better and a worse answer, to learn from
mining.py       those that a live model gives
"""

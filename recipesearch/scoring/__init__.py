"""Scoring a live model on lm-eval tasks: requests built once, results kept item by item.

tasks.py     loads and checks tasks, and gives each a content hash
scorer.py    Scorer: LM -> TaskScore, equal to lm-eval's evaluate()
"""

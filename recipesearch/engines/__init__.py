"""Engines: each holds one live model and becomes any recipe's model in place.

An engine has ``load(recipe) -> LM``: lm-eval's own class is the seam to scoring.

    transformers.py    one transformers model in this process, overwritten by each recipe
"""

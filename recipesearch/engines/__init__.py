"""Engines: each holds one live model and becomes any recipe's model in place.

An engine has ``load(recipe) -> LM`` (lm-eval's own class is the seam to scoring) and ``label``, which names
everything about it that can move a score; scores with different labels are never mixed.
"""

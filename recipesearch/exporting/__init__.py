"""Export: a found recipe as a folder to publish, and the proof that the folder rebuilds what was scored.

export.py        a recipe as mergekit YAML with provenance, and its card
bundle.py        its ancestors, and the stock commands that rebuild all
card.py          the model card: scores with errors, parents, how to rebuild
card_lineage.py  the card's sections on where the model comes from
verify.py        the rebuild by stock mergekit, tensor by tensor and score by score
"""

"""Exporting: a found recipe as a folder to publish, and the proof that the recipe rebuilds the scored model.

export.py        a recipe as mergekit YAML with provenance, and its card
bundle.py        the recipe's ancestors, and the stock commands that rebuild the whole family
stub.py          a base with config and tokenizer only, for stock mergekit
card.py          the model card: scores with errors, parents, how to rebuild
card_lineage.py  the card's sections on where the model comes from
write_model.py   a recipe file's model as a folder
verify.py        rebuilds a recipe with stock mergekit, and compares tensors and scores
"""

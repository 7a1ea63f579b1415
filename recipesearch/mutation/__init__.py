"""Mutations: a recipe's model, fine-tuned on preference pairs, becomes a parent: the recipe and an adapter.

mutate.py    from a winner to a mutant: mined, trained, judged, written down
order.py     what a training is asked, and what it tells
training.py  trl's DPOTrainer or SFTTrainer with a LoRA
watch.py     what stops a training, and how far the model has gone
process.py   a training as a process of its own
gate.py      whether a mutant is let in: paired tests
bred.py      the parents that a study has bred, as files
"""

"""Mutation: a found recipe's model, fine-tuned on preference pairs into a new parent.

breeder.py           from a winner to a mutant: mined, trained, judged, written to the database
by_hand.py           one winner, mutated outside any loop
gate.py              whether a mutant is accepted: paired tests
bred.py              the parents that a study has bred, as files
training_order.py    what a training is given, and what it returns
training_process.py  a training as a process of its own
training.py          trl's DPOTrainer or SFTTrainer with a LoRA
watch.py             when a training stops early, and how far the model has moved
"""

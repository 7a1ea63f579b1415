"""Mutation: a found recipe's model, fine-tuned on preference pairs into a new parent.

breeder.py           from a winner to a mutant: mining, training, gate, database
by_hand.py           mutates one winner outside any loop
gate.py              accepts or rejects a mutant by paired tests
bred.py              the parents that a study has bred, as files
training_order.py    the input and the result of a training
training_process.py  a training in a process of its own
training.py          trl's DPOTrainer or SFTTrainer with a LoRA
watch.py             stops a training early, and measures how far the model has moved
"""

"""Parents: the models that recipes draw on, as their files describe them. Light: reads headers and configs.

identify.py         from a reference in a study file to a Parent
digest.py           a model's content digest, and its place in the cache
shapes.py           a parent's shapes, whether or not its files exist yet
headers.py          the tensors of a checkpoint, from its safetensors headers
compatibility.py    which parents can be merged with each other
tokenizer_files.py  tokenizers as files
memory.py           the memory that a study needs, and the refusal of what cannot fit
"""

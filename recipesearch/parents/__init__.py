"""Parents: the models that recipes merge, as described by their files. Light: reads headers and configs.

identify.py         from a reference in a study file to a Parent
digest.py           the content digest of a model, kept in the cache
shapes.py           a parent's shapes, whether or not its files exist yet
headers.py          a checkpoint's config and tensors, from its safetensors headers
compatibility.py    which parents can be merged with each other
tokenizer_files.py  tokenizers as files: tokens, copies and digests
machine.py          the memory that this machine has left
memory.py           the memory that a study needs, and the rejection of studies that cannot fit
"""

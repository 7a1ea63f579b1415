"""From parents on disk to a stream of merged tensors, through mergekit's own kernels.

headers.py        what a checkpoint holds, read from its safetensors headers alone (light)
parents.py        from a reference to a Parent with a content digest (light)
compatibility.py  which parents can be merged, and why not, before a weight is read (light)
tokenizers.py     tokenizers as files, and a study's own, built once (light)
vocabulary.py     parents aligned to one vocabulary, once, by mergekit's own code
resident.py       the parents' tensors, memory-mapped and kept
stream.py         Merger: recipe -> (name, tensor), equal bit for bit to mergekit's run_merge
checkpoint.py     a merged model as a folder, complete or absent
stock.py          the same merge by stock mergekit-yaml in a process of its own, to compare
"""

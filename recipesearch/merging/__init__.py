"""From parents on disk to a stream of merged tensors, computed by mergekit's own kernels.

materialize.py  builds parents that are recipes or have adapters as folders in the cache
resident.py     the parents' tensors, memory-mapped and kept for all recipes
stream.py       Merger: recipe -> (name, tensor), equal bit for bit to mergekit's run_merge
draws.py        the random numbers of a merge, separate from the caller's
vocabulary.py   aligns parents to one vocabulary, once, with mergekit's own code
settle.py       builds a study's own tokenizer, once, in the cache
layered.py      the config of a merged model, with its per-layer lists rewritten
checkpoint.py   writes a merged model as a folder that is complete or absent
measure.py      the number of parameters and the weight norm of a merge
stock.py        the same merge by stock mergekit-yaml in its own process, for comparison
"""

"""Engines: each holds one live model and loads any recipe into it in place.

An engine has ``load(recipe) -> LM``: lm-eval's own class is the interface to scoring.

opening.py         from a study file's engine section to an engine
transformers.py    one transformers model in this process, overwritten by each recipe
vllm.py            one vLLM engine in this process, reloaded in place by each recipe, with checks
vllm_options.py    the arguments and the environment that vLLM is started with
vllm_worker.py     the code inside vLLM's workers: the merge, streamed into the live model
vllm_lm.py         lm-eval's LM over the live vLLM engine
canary.py          log-probabilities by transformers, for vLLM's self-test
"""

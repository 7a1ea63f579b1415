"""Engines: each holds one live model and becomes any recipe's model in place.

An engine has ``load(recipe) -> LM``: lm-eval's own class is the seam to scoring.

    transformers.py    one transformers model in this process, overwritten by each recipe
    vllm.py            one vLLM engine in this process, reloaded in place by each recipe, and its guards
    vllm_options.py    what vLLM is started with
    vllm_worker.py     what runs inside vLLM's workers: the merge, streamed into the live model
    vllm_lm.py         lm-eval's LM over the live vLLM engine
    canary.py          log-probabilities by transformers, to hold vLLM against
    choice.py          from a study file's engine section to an engine
"""

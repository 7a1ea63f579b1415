"""Samplers: from a name in the plan to what proposes genomes; the only room that tells samplers apart.

fit.py        what each sampler can search, the refusal of what it cannot, and the choice of ``auto``
build.py      names to Optuna samplers
catcmawm.py   CMA-ES over numbers and choices together
per_trial.py  a sampler built anew for each trial, which proposes no recipe twice
"""

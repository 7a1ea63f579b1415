"""Samplers: from a sampler's name in the plan to proposed genomes. Only this room distinguishes samplers.

fit.py        what each sampler can search, the rejection of unsuitable spaces, and the choice of ``auto``
build.py      an Optuna sampler from a sampler's name
catcmawm.py   CMA-ES over numbers and choices together
per_trial.py  a sampler that is rebuilt for each trial and avoids known recipes
"""

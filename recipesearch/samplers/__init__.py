"""Samplers: from a sampler's name in the plan to proposed genomes. Only this room distinguishes samplers.

fit.py               what each sampler can search, the rejection of other spaces, the choice of ``auto``
build.py             an Optuna sampler from a sampler's name
catcmawm.py          CMA-ES over numbers and choices together
merge_gp.py          Bayesian optimisation over merge coordinates, with the files below
merge_model.py       the model of a study's merges
most_telling.py      of very many observations, those that a model takes
problem.py           the inputs of the model beside the trials
outcomes.py          metrics on the model's scale, with the noise of each score
gaussian_process.py  the model of one objective
moves.py             candidates: steps from good merges, and random points
improvement.py       what a candidate is expected to add
posterior.py         the posterior of scored recipes
marks.py             the attributes of a trial that samplers and studies share
per_trial.py         a sampler that is rebuilt for each trial and avoids known recipes
"""

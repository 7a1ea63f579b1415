"""The user attributes of a trial that samplers and studies share, readable in any Optuna tool."""

RECIPE = "recipe"  # the digest of the trial's recipe, set once all genes are drawn
SEED = "seed"  # the label of a recipe that the study starts from
GAIN = "expected_gain"  # what a model expected of the recipe (see study/results.py)

"""Search for model-merge recipes: mergekit recipes evolved with Optuna, scored live, rebuilt exactly."""

__version__ = "0.1.0"

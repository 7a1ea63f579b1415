"""The peers' searches over the same parents: mergekit-evolve's and mergenetic's genomes and optimisers.

Both ask ``score`` for the two objectives of a recipe: their merges to disk and engine starts are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cma
import yaml
from mergekit.common import ModelReference
from mergekit.evo.genome import ModelGenome, ModelGenomeDefinition

from recipesearch.recipe import Parent, Recipe
from recipesearch.recipe.mergekit_yaml import from_yaml

Score = Callable[[Recipe], tuple[float, float]]
Parents = Mapping[str, Parent]
EXPERTS = ("math", "lang")


def evolve(score: Score, parents: Parents, method: str, trials: int, seed: int) -> None:
    """mergekit-evolve: its genome (layer_granularity 1) under ``cma`` as scripts/evolve.py sets it up.

    Sigma 1/6, no bounds; one number, the mean of both objectives.
    """
    references = {name: ModelReference.parse(str(parent.source)) for name, parent in parents.items()}
    definition = ModelGenomeDefinition(
        models=[references[name] for name in EXPERTS],
        merge_method=method,
        base_model=None if method == "linear" else references["base"],
        layer_granularity=1,
    )
    genome = ModelGenome(definition)

    def loss(x: Any) -> float:
        config = genome.genotype_merge_config(x).model_dump(mode="json")
        return -sum(score(_recipe(config, parents))) / 2

    start = genome.initial_genotype().view(-1).numpy()
    cma.fmin2(loss, start, 1 / 6, {"maxfevals": trials, "seed": seed + 1, "verbose": -9})


def mergenetic(score: Score, parents: Parents, method: str, trials: int, seed: int) -> None:
    """mergenetic: pymoo's NSGA-II, population 10, over one number for each parent and parameter, 0 to 1."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize

    densities = method == "dare_ties"

    class Problem(ElementwiseProblem):  # type: ignore[misc]
        def __init__(inner) -> None:
            super().__init__(n_var=4 if densities else 2, n_obj=2, xl=0, xu=1)

        def _evaluate(inner, x: Any, out: Any, *args: Any, **keywords: Any) -> None:
            values = [float(value) for value in x]
            out["F"] = [-value for value in score(_recipe(_whole_models(method, values, parents), parents))]

    minimize(Problem(), NSGA2(pop_size=10), ("n_eval", trials), seed=seed + 1)


def _whole_models(method: str, x: list[float], parents: Parents) -> dict[str, Any]:
    """A mergekit config without slices: a weight for each expert, and a density if there are four numbers."""
    entries = []
    for place, name in enumerate(EXPERTS):
        parameters = {"weight": x[place], **({"density": x[2 + place]} if len(x) > 2 else {})}
        entries.append({"model": str(parents[name].source), "parameters": parameters})
    if method == "linear":
        return {"merge_method": method, "models": entries}
    base = str(parents["base"].source)
    return {"merge_method": method, "models": [{"model": base}, *entries], "base_model": base}


def _recipe(config: Mapping[str, Any], parents: Parents) -> Recipe:
    """A peer's configuration in our dtype, without int8_mask, which some of its methods do not accept."""
    known = ("merge_method", "models", "slices", "base_model", "parameters")
    kept = {key: _plain(config[key]) for key in known if config.get(key)}
    kept["parameters"] = {k: v for k, v in kept.get("parameters", {}).items() if k != "int8_mask"}
    by_path = {str(parent.source): parent for parent in parents.values()}
    return from_yaml(yaml.safe_dump({**kept, "dtype": "float32"}), by_path.__getitem__)[0]


def _plain(value: Any) -> Any:
    """mergekit's model references as paths, without the keys whose value is None."""
    if isinstance(value, Mapping):
        if "model" in value and isinstance(value["model"], Mapping) and "path" in value["model"]:
            return value["model"]["path"]
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

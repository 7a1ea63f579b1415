"""Expresses random genomes in quantity: mergekit must accept every recipe, and some recipes are merged.

    python scripts/check_spaces.py [--genomes 10000] [--merges 300]

Every space is of all twenty methods. Each genome must express the same digest twice. mergekit must read the
recipe, accept its inputs and every parameter name, and accept every value, resolved for tensors of all kinds
in every slice (mergekit's configuration model alone accepts unknown names and any value). The merges, of
random Llamas of 4 layers, are spread over the spaces; each must be finite and complete. Ends with exit code 1
if any check fails.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mergekit import merge_methods
from mergekit.config import ConfigReader, MergeConfiguration
from mergekit.merge_methods.base import ParameterScope
from mergekit.parameter_resolver import resolve_parameters
from optuna.distributions import CategoricalDistribution, FloatDistribution
from transformers import LlamaConfig, LlamaForCausalLM

from recipesearch.merging.materialize import merger
from recipesearch.parents.identify import identify
from recipesearch.plan import WeightsPlan
from recipesearch.recipe import Parent, Recipe
from recipesearch.recipe.mergekit_yaml import to_mergekit
from recipesearch.recipe.methods import METHODS
from recipesearch.space.places import Parts
from recipesearch.space.pool import Pool
from recipesearch.space.weights import WeightSpace

LAYERS, NAMES = 4, ("base", "one", "two", "three")
EVERY = tuple(METHODS)
SPACES: Mapping[str, dict[str, Any]] = {
    "all methods, groups": {"methods": EVERY, "layer_groups": 2},
    "all methods, subsets, any base": {"methods": EVERY, "parents": "subset", "base": "any"},
    "all methods, filters, own parts": {
        "methods": EVERY,
        "parents": "subset",
        "layer_groups": 4,
        "filters": ("self_attn", "mlp"),
        "own": ("embed", "head", "norm"),
    },
    "all methods, gradients": {"methods": EVERY, "gradient": 3, "filters": ("mlp",), "base": "any"},
    "extreme densities": {"methods": EVERY, "density": (0.0001, 1.0), "weight": (-0.5, 2.0)},
}
TENSORS = (
    "model.embed_tokens.weight",
    "model.layers.1.mlp.up_proj.weight",
    "model.norm.weight",
    "lm_head.weight",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--genomes", type=int, default=10_000)
    parser.add_argument("--merges", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        parents = {name: _llama(Path(scratch, name), seed) for seed, name in enumerate(NAMES)}
        owner, wrong = merger(parents.values()), 0
        for title, settings in SPACES.items():
            space, begun, draw = _space(settings, parents), time.perf_counter(), random.Random(title)
            methods: Counter[str] = Counter()
            every = arguments.genomes * len(SPACES) // arguments.merges
            merged = 0
            for number in range(arguments.genomes):
                genome = _draw(space, draw)
                try:
                    recipe = space.express(genome)
                    assert space.express(dict(reversed(genome.items()))).digest == recipe.digest
                    _require_taken(recipe)
                    if number % every == 0:
                        merged += 1
                        assert len(list(owner.stream(recipe))) == 9 * LAYERS + 3
                except Exception as error:
                    wrong += 1
                    print(f"{title}: {type(error).__name__}: {error}\n  {genome}", flush=True)
                methods[METHODS[genome["method"]].name] += 1
            print(
                f"{title}: {len(space.genes)} genes, {arguments.genomes} genomes, {len(methods)} methods, "
                f"{merged} merged, {time.perf_counter() - begun:.0f} s",
                flush=True,
            )
    print(f"{wrong} of {arguments.genomes * len(SPACES)} genomes failed")
    return int(wrong > 0)


def _require_taken(recipe: Recipe) -> None:
    config = MergeConfiguration.model_validate(to_mergekit(recipe, lambda parent: str(parent.source)))
    method = merge_methods.get(recipe.method)
    known = {parameter.name: parameter for parameter in method.spec.parameters}
    for part in config.slices or []:
        method.validate_inputs([source.model for source in part.sources], config.base_model)
        named = {name for source in part.sources for name in source.parameters or {}}
        assert named | set(part.parameters or {}) | set(config.parameters or {}) <= set(known)
        reader = ConfigReader(config=config, t=0.5, slice_out=part)
        for tensor in TENSORS:
            shared, own = resolve_parameters(
                method.spec,
                tensor_name=tensor,
                inputs={source.model: tensor for source in part.sources},
                sources=reader.parameter_sources,
                base_model=reader.base_model,
                t=0.5,
            )
            for values in (shared, *own.values()):
                for name, value in values.items():
                    assert known[name].validate(value) == value
                _require_coupled(method.spec.name, values)
            shared_names = {p.name for p in known.values() if p.scope == ParameterScope.SHARED}
            assert set(shared) <= shared_names


def _require_coupled(method: str, values: Mapping[str, Any]) -> None:
    """Excludes values that mergekit's kernels reject or answer with nonsense (sparsify.py)."""
    density = values.get("density", 1.0)
    if method.startswith("della") and 0 < density < 1:
        assert 0 < density - values["epsilon"] <= density + values["epsilon"] < 1
    if method.startswith("breadcrumbs") and density < 1 and "gamma" in values:
        assert values["gamma"] < 1 - density


def _draw(space: WeightSpace, draw: random.Random) -> dict[str, Any]:
    genome: dict[str, Any] = {}
    for name, gene in space.genes.items():
        if isinstance(gene, CategoricalDistribution):
            genome[name] = draw.choice(gene.choices)
        elif isinstance(gene, FloatDistribution):
            ends = draw.random() < 0.2
            genome[name] = draw.choice([gene.low, gene.high]) if ends else draw.uniform(gene.low, gene.high)
    return genome


def _space(settings: Mapping[str, Any], parents: Mapping[str, Parent]) -> WeightSpace:
    parts = Parts(("model.embed_tokens.weight",), ("lm_head.weight", "model.norm.weight"), ("norm",))
    pool = Pool(parents, "base", dict.fromkeys(parents, LAYERS), parts, "float32", 7)
    return WeightSpace(WeightsPlan(**settings), pool)


def _llama(folder: Path, seed: int) -> Parent:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": LAYERS, "vocab_size": 48}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2))
    for parameter in model.parameters():  # also the norms, which start as ones
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return identify(str(folder), folder)


if __name__ == "__main__":
    sys.exit(main())

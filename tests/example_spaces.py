"""Weight spaces of every kind, and genomes anywhere in them."""

from optuna.distributions import CategoricalDistribution

from recipesearch.plan import WeightsPlan
from recipesearch.recipe import Parent
from recipesearch.recipe.methods import METHODS
from recipesearch.space.places import Parts
from recipesearch.space.pool import Pool
from recipesearch.space.weights import WeightSpace

NAMES = ("base", "math", "lang")
INNER = ("self_attn.q_proj", "mlp.up_proj", "input_layernorm", "post_attention_layernorm")
PARTS = Parts(
    ("model.embed_tokens.weight",),
    ("lm_head.weight", "model.norm.weight"),
    ("norm",),
    tuple(f"model.layers.{{}}.{name}.weight" for name in INNER),
)
ALL = tuple(METHODS)
TASK_VECTORS = tuple(name for name, method in METHODS.items() if method.base == "required")
WITHOUT_BASE = tuple(name for name in ALL if name not in TASK_VECTORS)

SPACES = {
    "all methods": {"methods": ALL, "layer_groups": 2},
    "all methods in reverse": {"methods": ALL[::-1], "parents": "subset"},
    "any base": {"methods": ALL, "parents": "subset", "base": "any", "layer_groups": 2},
    "task vectors, subset, filters": {
        "methods": TASK_VECTORS,
        "parents": "subset",
        "layer_groups": 3,
        "filters": ("self_attn", "mlp"),
    },
    "own ends": {
        "methods": ALL,
        "parents": "subset",
        "layer_groups": 4,
        "own": ("embed", "head"),
        "filters": ("mlp",),
    },
    "own norms": {"methods": ("linear", "slerp"), "layer_groups": 2, "own": ("norm",)},
    "gradients": {"methods": ALL, "gradient": 3, "filters": ("mlp", "norm")},
    "gradients, own parts": {"methods": ALL, "gradient": 2, "own": ("embed", "head", "norm")},
    "linear and task vectors": {"methods": ("linear", "task_arithmetic"), "parents": "subset"},
    "linear": {"methods": ("linear",), "parents": "subset", "layer_groups": 4},
    "slerp": {"methods": ("slerp",), "layer_groups": 2, "filters": ("mlp",)},
    "narrow": {"methods": ("della", "breadcrumbs"), "density": (0.0101, 0.9999)},
    "tiny weights": {"methods": ("linear", "ties"), "weight": (0.0, 0.0003), "layer_groups": 2},
    "held": {"methods": ("linear", "ties"), "density": 0.4, "lambda": 0.9, "normalize": False},
}
BASELESS = {
    "linear": {"methods": ("linear",), "parents": "subset", "layer_groups": 2},
    "both": {"methods": ("linear", "slerp"), "parents": "subset", "own": ("embed", "head")},
    "slerp": {"methods": ("slerp",), "layer_groups": 4},
    "no base needed": {"methods": WITHOUT_BASE, "parents": "subset", "layer_groups": 2},
    "any base": {"methods": ALL, "parents": "subset", "base": "any"},
}


def space_of(settings, base="base", names=NAMES, layers=4, parents=None):
    pool = parents or {name: Parent(f"digest of {name}", f"/models/{name}") for name in names}
    depths = dict.fromkeys(pool, layers)
    return WeightSpace(WeightsPlan(**settings), Pool(pool, base, depths, PARTS, "float32", 7))


def draw(space, rng):
    """A genome anywhere in the ranges, often at their ends, where roundings and couplings bite."""
    genome = {}
    for name, gene in space.genes.items():
        if isinstance(gene, CategoricalDistribution):
            genome[name] = rng.choice(gene.choices)
        else:
            near = (
                rng.choice([gene.low, gene.high]) if rng.random() < 0.3 else rng.uniform(gene.low, gene.high)
            )
            genome[name] = min(max(near + rng.choice([0, 0, 1e-5, -1e-5, 1e-4]), gene.low), gene.high)
    return genome


CASES = [
    *((f"{name}, a base", settings, "base") for name, settings in SPACES.items()),
    *((f"{name}, no base", settings, None) for name, settings in BASELESS.items()),
]

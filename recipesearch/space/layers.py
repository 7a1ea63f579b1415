"""The layer space: which layers of which parents follow each other, and the stream's scale between them.

"Data-flow space" (DFS) of Akiba et al., 2403.13187, section 3.2. A path becomes a mergekit ``passthrough``
recipe, so stock engines can serve it. The paper multiplies the input that layer j gets from layer i by W_ij.
If every layer reads the stream through a norm, this is equivalent to dividing a layer's output by P_t, the
product of all W up to that layer:

    h_t = W_t h_(t-1) + f(norm(h_(t-1)))                  the paper's stream
    g_t = h_t / P_t = g_(t-1) + f(norm(g_(t-1))) / P_t    the same stream, divided by P_t = W_1 ... W_t

The final norm cancels the last P_t. The two are equal up to the norm's epsilon, and for positive W. So W
becomes mergekit's ``scale`` on the tensors that write to the stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from ..errors import PlanError
from ..plan import LayersPlan
from ..recipe import Conditional, Parameters, Recipe, Slice, Source
from ..recipe.architectures import RESIDUALS, Residual
from .choice import Genome, Reader
from .paths import Layers, Step, encoding
from .pool import Pool

_DECIMALS = 4  # of W
_MOST = 1e30  # of a product of W, and of its reciprocal: beyond it no dtype can represent the weights
_DIGITS = 9  # of a scale: more than any dtype in which models are served


class _Scaled(NamedTuple):
    """A layer of a path, and the factor that multiplies its writers."""

    parent: str
    layer: int
    factor: float


class LayerSpace:
    """The genes of a plan's layer space over a pool of parents, and their expression.

    Raises PlanError for parents whose vocabularies need aligning, and for scales in an architecture whose
    weights cannot absorb them.
    """

    def __init__(self, plan: LayersPlan, pool: Pool) -> None:
        self._plan, self.pool = plan, pool
        if pool.tokenizer:
            raise PlanError(
                "a layer recipe takes each tensor from one parent, so there is nothing to align: remove "
                "'tokenizer' and first build parents that share a vocabulary (an era with space.weights, or "
                "'recipesearch merge')"
            )
        self._residual = _require_foldable(plan, pool) if plan.scale else None
        self._encoding = encoding(plan, pool.depths)
        self.genes: dict[str, BaseDistribution] = dict(self._genes())

    def express(self, genome: Genome) -> Recipe:
        """The recipe of a complete genome. Total: every genome in range expresses a valid recipe.

        A path that is too short is preceded by the donor's first layers, which have no W. (The slots encoding
        gives no such path: it adds its likeliest layers.) Raises KeyError if a gene is missing.
        """
        if missing := self.genes.keys() - genome.keys():
            raise KeyError(min(missing))
        path = self._scaled(genome, self._path(genome))
        slices = list(_slices(path, self._writers(), self.pool))
        for end, gene in ((0, "embed"), (-1, "head")):
            owner = self._owner(genome, gene, path[end].parent)
            if owner != path[end].parent:  # mergekit takes both from the outermost slices, even if empty
                slices.insert(0 if end == 0 else len(slices), _empty(self.pool, owner))
        return Recipe(
            "passthrough",
            tuple(slices),
            self.pool.parents[self.pool.donor],
            dtype=self.pool.dtype,
            seed=self.pool.seed,
        )

    def active(self, genome: Genome) -> set[str]:
        """The genes that decide this genome's recipe. The other genes are idle and may have any value."""
        reader = Reader(genome)
        self.express(reader)
        return reader.read

    def genome(self, path: Layers) -> dict[str, Any] | None:
        """The genes of an unscaled path, given as (parent, layer) in order; None if no genome expresses it.

        If embeddings and head are searched, they come from the first and last layer's parents.
        """
        genes = self._encoding.write(path)
        if genes is None:
            return None
        ends = {"embed": path[0][0], "head": path[-1][0]}
        scale = {name: 1.0 for name in self.genes if name.startswith("scale.")}
        genome = {**genes, **scale, **{name: ends[name] for name in ends if name in self.genes}}
        expressed = [(step.parent, step.layer) for step in self._path(genome)]
        return genome if expressed == list(path) and self._takes_one() else None

    # -- genes

    def _genes(self) -> Iterator[tuple[str, BaseDistribution]]:
        yield from self._encoding.genes.items()
        if self._plan.scale:
            low, high = self._plan.scale
            for place in self._scale_places():
                yield f"scale.{place}", FloatDistribution(low, high)
        for gene in ("embed", "head"):
            if getattr(self._plan, gene) == "any":
                yield gene, CategoricalDistribution(tuple(self.pool.parents))

    def _scale_places(self) -> Sequence[str]:
        """The places of W: before each place's first layer, or between each ordered pair of layers."""
        if self._plan.scale_by == "place":
            return self._encoding.places
        layers = [f"{name}.{layer}" for name, depth in self.pool.depths.items() for layer in range(depth)]
        return [f"{one}>{other}" for one in layers for other in layers]

    # -- expression

    def _path(self, genome: Genome) -> list[Step]:
        path = self._encoding.read(genome)
        missing = max(self._plan.depth[0] - len(path), 0)
        donor, depth = self.pool.donor, self.pool.layers
        return [*(Step(donor, layer % depth, "") for layer in range(missing)), *path]

    def _scaled(self, genome: Genome, path: Sequence[Step]) -> list[_Scaled]:
        """The path with the factor of each layer: 1 over the product of all W up to that layer."""
        product, scaled, before = 1.0, [], None
        for step in path:
            product = min(max(product * self._scale(genome, before, step), 1 / _MOST), _MOST)
            scaled.append(_Scaled(step.parent, step.layer, float(f"{1 / product:.{_DIGITS}g}")))
            before = step
        return scaled

    def _scale(self, genome: Genome, before: Step | None, step: Step) -> float:
        """The scale W before a layer."""
        if self._plan.scale is None or not step.place:
            return 1.0
        if self._plan.scale_by == "place":
            first = before is None or before.place != step.place
            return round(float(genome[f"scale.{step.place}"]), _DECIMALS) if first else 1.0
        if before is None:
            return 1.0
        gene = f"scale.{before.parent}.{before.layer}>{step.parent}.{step.layer}"
        return round(float(genome[gene]), _DECIMALS)

    def _owner(self, genome: Genome, gene: str, at_the_end: str) -> str:
        """The parent that gives the embeddings, or the final norm and head."""
        wanted = getattr(self._plan, gene)
        if wanted == "any":
            return str(genome[gene])
        return next(iter(self.pool.parents)) if wanted == "first" else at_the_end

    def _writers(self) -> tuple[str, ...]:
        return self._residual.writers if self._residual else ()

    def _takes_one(self) -> bool:
        """Whether W may be 1 everywhere."""
        return self._plan.scale is None or self._plan.scale[0] <= 1.0 <= self._plan.scale[1]


def _require_foldable(plan: LayersPlan, pool: Pool) -> Residual:
    residual = RESIDUALS.get(pool.architecture)
    if residual is None or not residual.pre_norm:
        why = (
            "normalises the outputs of its layers, which undoes the scales"
            if residual
            else "is not known to support scales"
        )
        raise PlanError(
            f"space.layers.scale: {pool.architecture} {why}; remove 'scale' (it works for "
            f"{', '.join(name for name, row in RESIDUALS.items() if row.pre_norm)})"
        )
    return residual


def _slices(path: Sequence[_Scaled], writers: Sequence[str], pool: Pool) -> Iterator[Slice]:
    """Consecutive layers of one parent with one factor form one slice."""
    start = 0
    for place, step in enumerate(path):
        following = path[place + 1] if place + 1 < len(path) else None
        if following is None or following != (step.parent, step.layer + 1, step.factor):
            layers = (path[start].layer, step.layer + 1)
            source = Source(pool.parents[step.parent], layers, _scale_setting(writers, step.factor))
            yield Slice((source,))
            start = place + 1


def _scale_setting(writers: Sequence[str], factor: float) -> Parameters:
    if factor == 1.0:
        return ()
    return (("scale", tuple(Conditional(factor, writer) for writer in writers)),)


def _empty(pool: Pool, parent: str) -> Slice:
    return Slice((Source(pool.parents[parent], (0, 0)),))

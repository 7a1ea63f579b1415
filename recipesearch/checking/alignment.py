"""The vocabulary that all recipes of a study share, computed from its ``tokenizer`` section. Light."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path

from ..errors import PlanError, nearest
from ..parents.headers import Checkpoint
from ..parents.shapes import Build, shapes_folder
from ..parents.tokenizer_files import Settled, token_ids
from ..plan import Plan, TokenPlan
from ..recipe import Parent, Tokenizer, TokenRow

_LOG = logging.getLogger("recipesearch")


def settle_vocabulary(plan: Plan, parents: Mapping[str, Parent]) -> Settled | None:
    """The tokenizer that every recipe of the study has; None without a ``tokenizer`` section.

    Token counts are in the order of ``plan.donor_first``. Loads mergekit the first time. Raises PlanError for
    a token whose ``model`` is not a parent, and RefusedInput for tokenizers that cannot be aligned.
    """
    tokenizer = stated_tokenizer(plan, parents)
    if tokenizer is None:
        return None
    from ..merging.settle import settle

    build = builder(plan.engine.threads)
    return settle(tokenizer, [shapes_folder(parents[name], build) for name in plan.donor_first])


def builder(threads: int | None) -> Build:
    """A function that builds a parent that is a recipe.

    The built model's bits depend on ``threads``; None keeps torch's number of threads.
    """

    def build(parent: Parent) -> Path:
        import torch

        from ..merging.materialize import directories

        if threads:
            torch.set_num_threads(threads)
        return directories([parent])[parent]

    return build


def stated_tokenizer(plan: Plan, parents: Mapping[str, Parent]) -> Tokenizer | None:
    """The plan's ``tokenizer`` section as recipe data, not yet aligned over the parents. Raises PlanError."""
    if plan.tokenizer is None:
        return None
    wanted = plan.tokenizer
    return Tokenizer(
        wanted.source,
        tuple((text, _row(text, token, parents)) for text, token in wanted.tokens.items()),
        wanted.pad_to_multiple_of,
        wanted.chat_template,
    )


def warn_of_other_tokens(checkpoints: Mapping[str, Checkpoint]) -> None:
    """Warns of each pair of parents whose embeddings have equal shapes but assign rows to other tokens."""
    known = {name: token_ids(checkpoint.directory) for name, checkpoint in checkpoints.items()}
    for one, other in itertools.combinations(known, 2):
        ours, theirs = known[one], known[other]
        if ours is not None and theirs is not None and ours != theirs:
            unlike = sum(ours.get(token) != theirs.get(token) for token in {*ours, *theirs})
            _LOG.warning(
                "parents '%s' and '%s' number their tokens differently (%d of %d), so merges mix the rows of "
                "different tokens; align the parents with tokenizer: {source: union}",
                one,
                other,
                unlike,
                len({*ours, *theirs}),
            )


def _row(text: str, token: TokenPlan, parents: Mapping[str, Parent]) -> TokenRow:
    name = token.source.model
    if name is None:
        return TokenRow(None, None, token.force)
    if name not in parents:
        raise PlanError(
            f"tokenizer.tokens.{text}: '{name}' is not among the parents: {nearest(name, parents)}"
        )
    given = token.source.token if token.source.token_id is None else token.source.token_id
    return TokenRow(parents[name], given, token.force)

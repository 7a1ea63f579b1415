"""What parents of different vocabularies cost a merge, beside stock mergekit on the same two.

    python scripts/bench_vocabulary.py [--tokens 128000] [--width 512] [--repeats 3]

Two random Llamas of one small layer, bfloat16, with the same tokens in different orders. Prints the seconds
of fixing their union, of the first merge, which aligns them, and the medians of later merges and of
mergekit's ``run_merge``, in turn. Ours end in memory, mergekit's on the disk.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers

from recipesearch.merging.materialize import merger, settled
from recipesearch.parents.identify import identify, model_directory
from recipesearch.recipe import Parent, Recipe, Slice, Source, Tokenizer, freeze
from recipesearch.recipe.mergekit_yaml import to_mergekit

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=128_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["RECIPESEARCH_CACHE"] = str(folder / "cache")  # nothing is fixed yet
        parents = [parent(folder / str(seed), seed, arguments.tokens, arguments.width) for seed in (0, 1)]
        measure(recipe_of(parents), folder, arguments.repeats)


def measure(recipe: Recipe, folder: Path, repeats: int) -> None:
    """Prints a row for each step."""
    stock = MergeConfiguration.model_validate(to_mergekit(recipe, lambda p: str(model_directory(p))))
    fixed, fixing = timed(lambda: settled(recipe))
    merges = merger(fixed.parents())
    _, first = timed(lambda: dict(merges.stream(fixed)))
    ours, theirs = [], []
    for place in range(repeats):
        ours.append(timed(lambda: dict(merges.stream(fixed)))[1])
        target = str(folder / f"stock{place}")
        theirs.append(timed(lambda: run_merge(stock, target, MergeOptions(quiet=True)))[1])  # noqa: B023
    print("| step | seconds |\n|---|---|")
    print(f"| fixing the union, first time (then cached) | {fixing:.1f} |")
    print(f"| first merge in a process: aligns | {first:.1f} |")
    print(f"| every later merge | {median(ours):.2f} |")
    print(f"| stock `run_merge`, every time | {median(theirs):.1f} |")


def timed(step: Callable[[], T]) -> tuple[T, float]:
    """What a step returns, and its seconds."""
    begun = time.monotonic()
    return step(), time.monotonic() - begun


def recipe_of(parents: list[Parent]) -> Recipe:
    """Their mean."""
    half = freeze({"weight": 0.5})
    sources = tuple(Source(parent, None, half) for parent in parents)
    return Recipe("linear", (Slice(sources),), dtype="bfloat16", tokenizer=Tokenizer("union"))


def parent(folder: Path, seed: int, tokens: int, width: int) -> Parent:
    """A model of random weights whose tokens have an order of their own."""
    words = [f"t{number}" for number in range(tokens - 1)]
    random.Random(seed).shuffle(words)
    vocabulary = {word: place for place, word in enumerate(["_", *words])}
    tokenizer = FastTokenizer(models.WordLevel(vocabulary, unk_token="_"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="_").save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=1,
        num_attention_heads=8,
        vocab_size=tokens,
        tie_word_embeddings=False,
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return identify(str(folder), folder)


if __name__ == "__main__":
    main()

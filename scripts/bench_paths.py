"""The price of paths of different depth: identity layers in a deep live model, or a model of their depth.

    python scripts/bench_paths.py [--rounds 3] [--threads 1]

A candidate is loaded and scored on the zoo's search items. transformers: the path filled up with identity
layers, in a live model of the deepest path, against an empty model of the path's depth (what the engine does
by itself). vLLM: the filled path in a deep live engine (what it does by itself) against a checkpoint of the
path and an engine of its own in a new process. First paths through the zoo's math and lang, then through two
random Llamas of 12 layers and 47M parameters. Medians of ROUNDS, after one that warms up; an engine of its
own is started once. Then what all of them answered, compared. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple, TypeVar

from recipesearch.parents.identify import identify
from recipesearch.plan import EnginePlan
from recipesearch.recipe import Parent, Recipe, Slice, Source
from recipesearch.recipe.hosting import deep, hosted
from recipesearch.score import TaskScore
from recipesearch.zoo import build_zoo, zoo_dir

Kind = Literal["vllm", "transformers"]
Result = TypeVar("Result")
ARCHITECTURE = "LlamaForCausalLM"
BATCH = 300
LLAMA = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 64,
}


class Candidate(NamedTuple):
    """Seconds to become a path and to score it, its scores, and its log-likelihoods of the right answers."""

    load: float
    score: float
    scores: list[TaskScore]
    likelihoods: list[float]


class Own(NamedTuple):
    """A candidate in an engine of its own, and the parts of its load; process means imports, too."""

    candidate: Candidate
    write: float
    start: float
    process: float


@dataclass(frozen=True)
class Family:
    """Two parents, and the depths of the paths through them. ``own``: those that get vLLM engines."""

    name: str
    parents: tuple[Parent, Parent]
    layers: int
    depths: Sequence[int]
    own: Sequence[int]
    tasks: Sequence[str]
    rounds: int
    threads: int

    def path(self, depth: int) -> Recipe:
        """The lower half from the first parent, the upper half and the head from the second."""
        lower = depth // 2
        ranges = ((0, lower), (self.layers - (depth - lower), self.layers))
        sources = zip(self.parents, ranges, strict=True)
        slices = tuple(Slice((Source(parent, layers),)) for parent, layers in sources)
        return Recipe("passthrough", slices, self.parents[0], dtype="float32")

    def hosted(self, depth: int) -> Recipe:
        """The path filled up to the deepest one."""
        return hosted(self.path(depth), self.depths[-1], ARCHITECTURE)

    def plan(self, kind: Kind) -> EnginePlan:
        """The engine that the paths live in."""
        return EnginePlan(kind=kind, dtype="float32", device="cpu", threads=self.threads, batch_size=BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    folder = build_zoo()
    rest = arguments.rounds, arguments.threads
    tasks = ("addition_b_search", "reading_b_search")
    parents = _parents([folder / name for name in ("math", "lang")])
    _compare(Family("zoo", parents, 4, range(2, 9), (2, 5, 8), tasks, *rest))
    with tempfile.TemporaryDirectory(prefix="bench-paths-") as scratch:
        parents = _parents(_in_new_process(_write_llamas, Path(scratch))[0])
        _compare(Family("Llama, 47M", parents, 12, (6, 9, 12), (6, 12), tasks[:1], *rest))


def _parents(folders: Sequence[Path]) -> tuple[Parent, Parent]:
    one, other = (identify(str(folder), folder) for folder in folders)
    return one, other


def _in_new_process(function: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """What a function returns in a Python of its own, and the seconds from that one's start to its end."""
    begun = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = pool.submit(function, *arguments).result()
    return result, time.perf_counter() - begun


# -- in processes of their own


def _in_transformers(family: Family) -> tuple[dict[int, Candidate], dict[int, Candidate]]:
    """The paths by identity layers and in models of their depth; by turns, a round of each."""
    from recipesearch.engines.opening import open_engine

    asked = Asked(family, open_engine(family.plan("transformers"), family.parents, family.parents[0]))
    identities, rebuilt = [], []
    for _ in range(1 + family.rounds):
        asked.engine.load(family.hosted(family.depths[-1]))  # so that no identity pays for a new model
        identities.append({depth: asked.candidate(family.hosted(depth)) for depth in family.depths})
        rebuilt.append({depth: asked.candidate(family.path(depth)) for depth in family.depths})
    return _medians(identities), _medians(rebuilt)


def _in_live_vllm(family: Family) -> dict[int, Candidate]:
    """The paths by identity layers in one live engine."""
    from recipesearch.engines.opening import open_engine
    from recipesearch.merging.materialize import write_recipe

    with tempfile.TemporaryDirectory(prefix="bench-paths-") as scratch:
        recipe = deep(family.parents[0], family.layers, family.depths[-1], ARCHITECTURE, "float32")
        folder = write_recipe(recipe, Path(scratch) / "deep")
        donor = identify(str(folder), folder)
        asked = Asked(family, open_engine(family.plan("vllm"), family.parents, donor))
        found = [
            {depth: asked.candidate(family.path(depth)) for depth in family.depths}
            for _ in range(1 + family.rounds)
        ]
        asked.engine.close()
    return _medians(found)


def _own_vllm(family: Family, depth: int) -> Own:
    """A path as a checkpoint, in an engine of its own in a process of its own."""
    own, whole = _in_new_process(_in_own_vllm, family, depth)
    process = whole - own.process - own.write - own.start - own.candidate.score
    return own._replace(
        candidate=own.candidate._replace(load=own.write + own.start + process), process=process
    )


def _in_own_vllm(family: Family, depth: int) -> Own:
    """The same in this process, where ``process`` is what asking for log-likelihoods took."""
    import torch

    torch.set_num_threads(family.threads)
    from recipesearch.engines.opening import open_engine
    from recipesearch.merging.materialize import write_recipe

    with tempfile.TemporaryDirectory(prefix="bench-paths-") as scratch:
        begun = time.perf_counter()
        folder = write_recipe(family.path(depth), Path(scratch) / "path")
        written = time.perf_counter()
        parent = identify(str(folder), folder)
        asked = Asked(family, open_engine(family.plan("vllm"), [parent], parent))
        started = time.perf_counter()
        candidate = asked.candidate(None)
        asking = time.perf_counter() - started - candidate.score
        own = Own(candidate, written - begun, started - written, asking)
        asked.engine.close()
    return own


class Asked:
    """An engine and the tasks' requests."""

    def __init__(self, family: Family, engine: Any) -> None:
        from recipesearch.scoring.scorer import Scorer
        from recipesearch.scoring.tasks import load_tasks

        files = [zoo_dir() / "tasks" / f"{name}.yaml" for name in family.tasks]
        self.engine = engine
        self._scorer = Scorer(load_tasks([str(file) for file in files]), engine.lm)
        lines = [line for file in files for line in file.with_suffix(".jsonl").read_text().splitlines()]
        self._pairs = [(row["prompt"], row["answer"]) for row in map(json.loads, lines)]

    def candidate(self, recipe: Recipe | None) -> Candidate:
        """Becomes a recipe's model (None: stays what it is) and scores it."""
        begun = time.perf_counter()
        if recipe is not None:
            self.engine.load(recipe)
        loaded = time.perf_counter()
        scores = self._scorer.score(self.engine.lm)
        scored = time.perf_counter()
        return Candidate(loaded - begun, scored - loaded, scores, self._likelihoods())

    def _likelihoods(self) -> list[float]:
        from lm_eval.api.instance import Instance

        requests = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(self._pairs)]
        return [value for value, _ in self.engine.lm.loglikelihood(requests, disable_tqdm=True)]


def _medians(rounds: Sequence[dict[int, Candidate]]) -> dict[int, Candidate]:
    """Each path's last answers and median times, the first round aside, which warms up."""

    def one(depth: int) -> Candidate:
        timed = [found[depth] for found in rounds[1:]]
        load, score = median(c.load for c in timed), median(c.score for c in timed)
        return timed[-1]._replace(load=load, score=score)

    return {depth: one(depth) for depth in rounds[0]}


# -- side by side


def _compare(family: Family) -> None:
    (identity, rebuilt), _ = _in_new_process(_in_transformers, family)
    live, _ = _in_new_process(_in_live_vllm, family)
    own = {depth: _own_vllm(family, depth) for depth in family.own}
    print(f"\n### {family.name}: seconds of a candidate, load + score\n")
    print(f"| depth, of {family.depths[-1]} | transformers, identities | its own model ", end="")
    print("| identities / own ", end="")
    print("| vLLM, identities | its own engine | own / identities |\n" + "|---" * 7 + "|")
    for depth in family.depths:
        ours, theirs = identity[depth], rebuilt[depth]
        cells = [str(depth), _seconds(ours), _seconds(theirs), f"{_whole(ours) / _whole(theirs):.2f}"]
        cells.append(_seconds(live[depth]))
        if depth in own:
            alone = own[depth].candidate
            cells += [_seconds(alone), f"{_whole(alone) / _whole(live[depth]):.0f}"]
        else:
            cells += ["", ""]
        print("| " + " | ".join(cells) + " |")
    for depth, one in own.items():
        print(f"\nDepth {depth}, its own engine: {one.process:.1f} s of process and imports, ", end="")
        print(f"{one.write:.2f} s to write, {one.start:.1f} s to start.")
    print("\n| against transformers' own model | accuracies equal | items equal ", end="")
    print("| log-likelihood, furthest |\n" + "|---" * 4 + "|")
    _print_agreement(rebuilt, "transformers, identities", identity)
    _print_agreement(rebuilt, "vLLM, identities", live)
    _print_agreement(rebuilt, "vLLM, its own engine", {depth: one.candidate for depth, one in own.items()})


def _whole(candidate: Candidate) -> float:
    return candidate.load + candidate.score


def _seconds(candidate: Candidate) -> str:
    return f"{candidate.load:.3f} + {candidate.score:.3f}"


def _print_agreement(reference: Mapping[int, Candidate], label: str, engine: Mapping[int, Candidate]) -> None:
    pairs = [(engine[depth], reference[depth]) for depth in engine]
    means = [same for pair in pairs for same in _means(*pair)]
    items = [same for pair in pairs for same in _items(*pair)]
    furthest = max(
        abs(a - b) for one, other in pairs for a, b in zip(one.likelihoods, other.likelihoods, strict=True)
    )
    print(f"| {label} | {sum(means)} of {len(means)} | {sum(items)} of {len(items)} ", end="")
    print(f"| {furthest:.1e} |", flush=True)


def _means(one: Candidate, other: Candidate) -> Iterator[bool]:
    """Whether each task's accuracy is the same."""
    for ours, theirs in zip(one.scores, other.scores, strict=True):
        yield ours.metrics["exact_match"].value == theirs.metrics["exact_match"].value


def _items(one: Candidate, other: Candidate) -> Iterator[bool]:
    """Whether each item's scores are the same."""
    for ours, theirs in zip(one.scores, other.scores, strict=True):
        yield from (ours.items[key] == theirs.items[key] for key in ours.items)


def _write_llamas(scratch: Path) -> list[Path]:
    """Two random models, who know the zoo's tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folders = [scratch / str(seed) for seed in range(2)]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=False)).save_pretrained(folder)
        for file in zoo_dir().glob("base/tokenizer*.json"):
            shutil.copy(file, folder)
    return folders


if __name__ == "__main__":
    main()

"""The cost of a candidate beside its scoring: a merge on disk and a fresh vLLM engine, against a live engine.

    python scripts/bench_cycle.py [--peers 3] [--ours 30] [--threads 1]

The peers' cycle is the cycle of searches that merge to disk. For each candidate mergekit-yaml writes a model;
a new process starts vLLM on the model, builds lm-eval's requests and sends the requests. As a careful user
would configure vLLM, the engine runs in that same process and compiles nothing. Both cycles score the same
recipes of the zoo (linear and ties in turn) on the same tasks with the same code; the peers score only the
first ``--peers`` recipes.

The second table gives the shares of merge and load in a trial, also for random Llamas of 10M and 100M
parameters (float32, 300 short answers). Its floor is the time in which a plain copy moves as many bytes as
all parents and the merged model have. Prints Markdown.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal, NamedTuple, TypeVar

from merge_timing import time_merges

from recipesearch.parents.headers import read_checkpoint
from recipesearch.parents.identify import identify, model_directory
from recipesearch.parents.memory import weight_bytes
from recipesearch.plan import EnginePlan
from recipesearch.recipe import Parent, Recipe, Slice, Source, freeze
from recipesearch.recipe.mergekit_yaml import to_yaml
from recipesearch.score import TaskScore
from recipesearch.zoo import build_zoo, zoo_dir

Kind = Literal["vllm", "transformers"]
Result = TypeVar("Result")
METHODS = ("linear", "ties")
TASKS = ("addition_b_search", "reading_b_search")  # 300 short answers each
BATCH = 300
ROUNDS = 3  # recipes of each method in the second part, after one that warms up
COPIED = 1 << 28  # bytes, more than any cache holds
LLAMAS = {
    "10M": {"vocab_size": 8192, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8},
    "100M": {"vocab_size": 32000, "hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 12},
}
HEAD = 64  # dimensions

PROCESSES = "new processes and their imports"
MERGE = "merge (the peers' to disk)"
LOAD = "load (the peers' into a new engine)"
REQUESTS = "tasks and requests"


@dataclass(frozen=True)
class Family:
    """Parents of one architecture in float32, the base first."""

    name: str
    parents: tuple[Parent, ...]
    threads: int

    def plan(self, kind: Kind) -> EnginePlan:
        """The plan of the engine that hosts the family's recipes."""
        return EnginePlan(kind=kind, dtype="float32", device="cpu", threads=self.threads, batch_size=BATCH)

    def recipes(self, count: int) -> list[Recipe]:
        """Recipes of all parents with random weights (and densities); the methods alternate."""
        draw = random.Random(0)
        return [self._recipe(METHODS[number % len(METHODS)], draw) for number in range(count)]

    def _recipe(self, method: str, draw: random.Random) -> Recipe:
        names = ("weight", "density") if method == "ties" else ("weight",)
        sources = [
            Source(parent, None, freeze({name: draw.uniform(0.2, 1.0) for name in names}))
            for parent in self.parents
        ]
        return Recipe(method, (Slice(tuple(sources)),), self.parents[0], dtype="float32")


class Cycle(NamedTuple):
    """One candidate: the seconds of each part beside the scoring, the seconds of the scoring, the scores."""

    parts: dict[str, float]
    score: float
    scores: list[TaskScore]

    @property
    def beside(self) -> float:
        """Seconds beside the scoring."""
        return sum(self.parts.values())

    @property
    def whole(self) -> float:
        """All seconds."""
        return self.beside + self.score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--ours", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    folder = build_zoo()
    zoo = _family("zoo", [folder / name for name in ("base", "math", "lang")], arguments.threads)
    _compare_cycles(zoo, arguments.peers, arguments.ours)
    print("\n| model | method | merge, s | load, s | score, s | merge, % | load, % ", end="")
    print("| floor, s | (merge + load) / floor | transformers: merge + load, s |\n" + "|---" * 10 + "|")
    _print_shares(zoo)
    for name in LLAMAS:
        with tempfile.TemporaryDirectory(prefix="bench-cycle-") as scratch:
            folders, _ = _in_new_process(_write_llamas, name, Path(scratch))
            _print_shares(_family(name, folders, arguments.threads))


def _family(name: str, folders: Sequence[Path], threads: int) -> Family:
    return Family(name, tuple(identify(str(folder), folder) for folder in folders), threads)


def _in_new_process(function: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """A function's result in a new Python process, and the seconds from the process's start to its end."""
    begun = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = pool.submit(function, *arguments).result()
    return result, time.perf_counter() - begun


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    begun = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begun


def _scorer(names: Sequence[str], lm: Any) -> Any:
    from recipesearch.scoring.scorer import Scorer
    from recipesearch.scoring.tasks import load_tasks

    return Scorer(load_tasks([str(zoo_dir() / "tasks" / f"{name}.yaml") for name in names]), lm)


# -- the two cycles


def _peers_cycle(family: Family, recipe: Recipe) -> Cycle:
    from recipesearch.merging import stock

    with tempfile.TemporaryDirectory(prefix="bench-cycle-") as scratch:
        config, merged = Path(scratch) / "recipe.yaml", Path(scratch) / "merged"
        config.write_text(to_yaml(recipe, lambda parent: str(model_directory(parent)), {}))
        merging = _seconds(stock.run, stock.command(config, merged, recipe.seed, family.threads))
        fresh, whole = _in_new_process(_score_folder, family, merged)
    importing = _seconds(subprocess.check_call, [sys.executable, "-c", "import mergekit.scripts.run_yaml"])
    processes = importing + whole - fresh.whole
    return fresh._replace(parts={PROCESSES: processes, MERGE: merging - importing, **fresh.parts})


def _score_folder(family: Family, folder: Path) -> Cycle:
    """Scores a model folder in a new vLLM engine, with the arguments of our live engine."""
    from recipesearch.engines.vllm_options import engine_arguments, prepare_process

    prepare_process("cpu", family.threads)
    from transformers import AutoTokenizer
    from vllm import LLM, TokensPrompt

    from recipesearch.engines.vllm_lm import VllmLM

    arguments = engine_arguments(family.plan("vllm"), "cpu", folder, [folder])
    del arguments["worker_extension_cls"]
    begun = time.perf_counter()
    llm = LLM(**arguments)
    started = time.perf_counter()

    def generate(prompts: Sequence[list[int]], parameters: Sequence[Any]) -> list[Any]:
        asked = [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts]
        return list(llm.generate(asked, list(parameters), use_tqdm=False))

    lm = VllmLM(generate, AutoTokenizer.from_pretrained(folder), arguments["max_model_len"])
    scorer = _scorer(TASKS, lm)
    built = time.perf_counter()
    scores = scorer.score(lm)
    return Cycle({LOAD: started - begun, REQUESTS: built - started}, time.perf_counter() - built, scores)


def _our_cycles(family: Family, kind: Kind, recipes: Sequence[Recipe], tasks: Sequence[str]) -> list[Cycle]:
    """Scores every recipe in one live engine."""
    from recipesearch.engines.opening import open_engine

    steps = time_merges()
    engine = open_engine(family.plan(kind), family.parents, family.parents[0])
    scorer = _scorer(tasks, engine.lm)
    cycles = []
    for recipe in recipes:
        steps.clear()
        loading, merging = _seconds(engine.load, recipe), sum(steps)
        begun = time.perf_counter()
        scores = scorer.score(engine.lm)
        score = time.perf_counter() - begun
        cycles.append(Cycle({MERGE: merging, LOAD: loading - merging}, score, scores))
    engine.close()
    return cycles


# -- side by side


def _compare_cycles(zoo: Family, peers: int, ours: int) -> None:
    recipes = zoo.recipes(ours)
    theirs = [_peers_cycle(zoo, recipe) for recipe in recipes[:peers]]
    mine, seconds = _in_new_process(_our_cycles, zoo, "vllm", recipes, TASKS)
    _print_parts(_mean(theirs), _mean(mine), f"| | peers, mean of {peers} | ours, mean of {ours} |")
    start = seconds - sum(cycle.whole for cycle in mine)
    _print_ratios(_mean(theirs), _mean(mine), start, ours)
    same = [one == other for pair in zip(theirs, mine, strict=False) for one, other in _items(*pair)]
    print(f"\n{sum(same)} of {len(same)} items are scored the same both ways.", flush=True)


def _mean(cycles: Sequence[Cycle]) -> Cycle:
    parts = {part: fmean(cycle.parts[part] for cycle in cycles) for part in cycles[0].parts}
    return Cycle(parts, fmean(cycle.score for cycle in cycles), [])


def _print_parts(theirs: Cycle, mine: Cycle, head: str) -> None:
    print(f"Seconds of a candidate\n\n{head}\n|---|---|---|")
    for part, seconds in theirs.parts.items():
        print(f"| {part} | {seconds:.3f} | {mine.parts.get(part, 0):.3f} |")
    print(f"| scoring | {theirs.score:.3f} | {mine.score:.3f} |")
    print(f"| candidates per hour | {3600 / theirs.whole:.0f} | {3600 / mine.whole:.0f} |")


def _print_ratios(theirs: Cycle, mine: Cycle, start: float, ours: int) -> None:
    bare = theirs.beside - theirs.parts[PROCESSES]
    print("\nSeconds beside the scoring\n\n| | peers | ours | ratio |\n|---|---|---|---|")
    for what, a, b in (
        ("a candidate", theirs.beside, mine.beside),
        (f"our start ({start:.1f} s) shared by {ours}", theirs.beside, mine.beside + start / ours),
        ("the peers' processes and imports left out", bare, mine.beside),
    ):
        print(f"| {what} | {a:.2f} | {b:.3f} | {a / b:.0f} |")


def _items(theirs: Cycle, mine: Cycle) -> Iterator[tuple[object, object]]:
    """Both scores of each item."""
    for one, other in zip(theirs.scores, mine.scores, strict=True):
        yield from ((one.items[key], other.items[key]) for key in one.items)


# -- the shares of a trial


def _print_shares(family: Family) -> None:
    """Medians over the rounds without the first, which opens files and fills caches."""
    recipes = family.recipes(len(METHODS) * (1 + ROUNDS))
    cycles, _ = _in_new_process(_our_cycles, family, "vllm", recipes, TASKS[:1])
    plain, _ = _in_new_process(_our_cycles, family, "transformers", recipes, ())
    bandwidth, _ = _in_new_process(_bandwidth, family.threads)
    floor = _bytes_moved(family) / bandwidth
    for place, method in enumerate(METHODS):
        rounds = slice(place + len(METHODS), None, len(METHODS))
        measured = [(cycle.parts[MERGE], cycle.parts[LOAD], cycle.score) for cycle in cycles[rounds]]
        merge, load, score = map(median, zip(*measured, strict=True))
        whole = merge + load + score
        print(f"| {family.name} | {method} | {merge:.3f} | {load:.3f} | {score:.2f} ", end="")
        print(f"| {100 * merge / whole:.0f} | {100 * load / whole:.0f} | {floor:.4f} ", end="")
        print(f"| {(merge + load) / floor:.1f} | {median(c.beside for c in plain[rounds]):.3f} |", flush=True)


def _bytes_moved(family: Family) -> int:
    """Bytes of all parents, read once, and of the merge, written once."""
    sizes = [weight_bytes(read_checkpoint(model_directory(parent)), "float32") for parent in family.parents]
    return sum(sizes) + sizes[0]


def _bandwidth(threads: int) -> float:
    """Bytes per second that a copy reads and writes: the best of ten copies."""
    import torch

    torch.set_num_threads(threads)
    source = torch.ones(COPIED, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * COPIED / min(_seconds(target.copy_, source) for _ in range(10))


def _write_llamas(name: str, scratch: Path) -> list[Path]:
    """Three random models with the zoo's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = LLAMAS[name]["hidden_size"] // HEAD
    config = LlamaConfig(
        **LLAMAS[name],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=HEAD,
        tie_word_embeddings=False,
    )
    folders = [scratch / str(seed) for seed in range(3)]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
        for file in zoo_dir().glob("base/tokenizer*.json"):
            shutil.copy(file, folder)
    return folders


if __name__ == "__main__":
    main()

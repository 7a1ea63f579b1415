"""What the tests of vLLM share. vLLM changes its process for good, so they come last and clean up."""

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from recipesearch.plan import EnginePlan
from recipesearch.recipe import Parent, Recipe, Slice, Source, freeze

CONTINUATIONS = [
    ("12+34=", "46$"),
    ("12+34=", "4"),  # one token: these three share a request
    ("12+34=", "5"),
    ("12+34=", "$"),
    ("@90^12=", "ja"),
    ("@90^12=", "j"),
    ("#12+34=", "EG$"),
    ("", "46$"),
    ("", "4"),
    ("max(", "jabc" * 6),
]
PROMPTS = ["12+34=", "#12+34=", "max(", "@90", "$", "#12~de=#12~de="]
TEXTS = ["12+34=46$", "4", "@90^12=ja$" * 4]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """vLLM's tests after all others: it freezes torch's threads and sets its own in the environment."""
    items.sort(key=lambda item: item.path.name.startswith("test_vllm"))


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """The environment from before vLLM, which sets much in it; put back after the module.

    As is ``torch.set_num_threads``, which vLLM replaces by one that does nothing: where pytest-xdist
    deals the files out, others' tests may follow in this process.
    """
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    import torch

    before, set_num_threads, threads = dict(os.environ), torch.set_num_threads, torch.get_num_threads()
    yield before
    os.environ.clear()
    os.environ.update(before)
    torch.set_num_threads = set_num_threads
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def open_vllm(environment: dict[str, str]) -> Callable[..., Any]:
    """A function (parents, dtype, batch_size, **vLLM's options) -> VllmEngine, its first parent the donor."""
    from recipesearch.engines.opening import open_engine

    def make(parents: list[Parent], dtype: Any = "float32", batch_size: int = 64, **options: Any) -> Any:
        keys: Any = {"dtype": dtype, "batch_size": batch_size, "options": options}
        plan = EnginePlan(kind="vllm", device="cpu", threads=1, **keys)
        return open_engine(plan, parents, parents[0])

    return make


@pytest.fixture(scope="module")
def open_transformers() -> Callable[..., Any]:
    """A function (parents, dtype) -> TransformersEngine on the CPU, its first parent the donor."""
    from recipesearch.engines.opening import open_engine

    def make(parents: list[Parent], dtype: Any = "float32") -> Any:
        plan = EnginePlan(dtype=dtype, device="cpu", threads=1, batch_size=64)
        return open_engine(plan, parents, parents[0])

    return make


@pytest.fixture(scope="session")
def random_model(zoo, tmp_path_factory):
    """A function (family, seed, tied) -> Parent: a tiny model of random weights that knows the zoo's tokens.

    Two query heads share one key head, so that no part of a fused layer has the size of another.
    """
    shape = {"vocab_size": 48, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    shape |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    own: dict[str, Any] = {
        "Gemma": {"head_dim": 32},
        "Gemma2": {"head_dim": 32},
        "Qwen3": {"head_dim": 32},
        "Mistral": {"sliding_window": 16},
    }

    @functools.cache
    def make(family: str, seed: int, tied: bool) -> Parent:
        import torch
        import transformers

        from recipesearch.parents.identify import identify

        config = getattr(transformers, f"{family}Config")(
            **shape, tie_word_embeddings=tied, **own.get(family, {})
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = transformers.AutoModelForCausalLM.from_config(config)
            for parameter in model.parameters():  # also norms and biases, which start as ones and zeros
                parameter.data += 0.1 * torch.randn_like(parameter)
        folder = tmp_path_factory.mktemp(family) / f"seed{seed}"
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(zoo / "base" / name, folder)
        return identify(str(folder), folder)

    return make


@pytest.fixture(scope="session")
def family(zoo):
    """The zoo's three models as parents, the base first."""
    from recipesearch.parents.identify import identify

    return [identify(str(zoo / name), zoo) for name in ("base", "math", "lang")]


@pytest.fixture(scope="session")
def average() -> Callable[..., Recipe]:
    """A function (parents, weights) -> Recipe: their linear average."""

    def make(parents, weights=(1, 0.5, 0.25)):
        pairs = zip(parents, weights, strict=False)
        sources = tuple(Source(parent, None, freeze({"weight": weight})) for parent, weight in pairs)
        return Recipe("linear", (Slice(sources),), parents[0], dtype="float32")

    return make


@pytest.fixture(scope="session")
def task_vectors() -> Callable[..., Recipe]:
    """A function (parents, method, weight) -> Recipe: task vectors of all parents but the first, the base."""

    def make(parents, method="ties", weight=0.6):
        own = freeze({"weight": weight} | ({} if method == "task_arithmetic" else {"density": 0.6}))
        sources = (Source(parents[0]), *(Source(parent, None, own) for parent in parents[1:]))
        return Recipe(method, (Slice(sources),), parents[0], dtype="float32", seed=3)

    return make


class Answers(NamedTuple):
    """What a language model said to one set of requests of each kind."""

    likelihoods: list[tuple[float, bool]]
    texts: list[str]
    rolling: list[float]


@pytest.fixture(scope="session")
def ask() -> Callable[..., Any]:
    """A function (kind, list of arguments) on a language model, as the Scorer asks."""
    from lm_eval.api.instance import Instance

    def asked(lm, kind, arguments):
        requests = [Instance(kind, {}, given, place) for place, given in enumerate(arguments)]
        return getattr(lm, kind)(requests, disable_tqdm=True)

    return asked


@pytest.fixture(scope="session")
def answers(ask) -> Callable[[Any], Answers]:
    """A function lm -> Answers to some prompts, continuations and texts."""
    keys = {"until": ["$"], "max_gen_toks": 8, "do_sample": False}

    def answered(lm):
        return Answers(
            ask(lm, "loglikelihood", CONTINUATIONS),
            ask(lm, "generate_until", [(prompt, keys) for prompt in PROMPTS]),
            ask(lm, "loglikelihood_rolling", [(text,) for text in TEXTS]),
        )

    return answered


@pytest.fixture(scope="session")
def furthest() -> Callable[[Answers, Answers], float]:
    """A function (Answers, Answers) -> the largest difference between their log-likelihoods."""

    def difference(one, other):
        pairs = zip(one.likelihoods, other.likelihoods, strict=True)
        spoken = [abs(a - b) for (a, _), (b, _) in pairs]
        return max(*spoken, *(abs(a - b) for a, b in zip(one.rolling, other.rolling, strict=True)))

    return difference

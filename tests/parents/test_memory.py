"""What a study needs of memory, against real models, and the refusal of what cannot fit."""

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipesearch import cli
from recipesearch.checking.estimate import estimate
from recipesearch.checking.preflight import preflight
from recipesearch.errors import RefusedInput
from recipesearch.parents import machine as machine_module
from recipesearch.parents import memory
from recipesearch.parents.headers import Checkpoint, TensorHeader, read_checkpoint
from recipesearch.parents.identify import locate
from recipesearch.parents.machine import available
from recipesearch.parents.memory import (
    cache_bytes_per_token,
    default_cache_bytes,
    gpu_share,
    longest_sequence,
    need,
    of_workers,
    require_memory,
    weight_bytes,
)
from recipesearch.plan import EnginePlan, Plan, load_plans

GIB = 1 << 30
LLAMA_3_8B = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 8192,
}
MakePlan = Callable[..., Plan]
Command = Callable[[str, Plan], int]


def checkpoint(entries: int = 1000, dtype: str = "F32", **config: Any) -> Checkpoint:
    """One tensor's header, behind Llama 3's config."""
    width = {"F32": 4, "BF16": 2}[dtype]
    header = TensorHeader(Path("model.safetensors"), dtype, (entries // 10, 10), 100, 100 + width * entries)
    return Checkpoint(Path(), LLAMA_3_8B | config, {"weight": header})


def vllm(**options: Any) -> EnginePlan:
    return EnginePlan(kind="vllm", dtype="bfloat16", device="cpu", batch_size=2, options=options)


# -- sizes


@pytest.mark.parametrize("tied", [False, True])
def test_weights_take_what_the_real_models_parameters_take(random_llama, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    folder = Path(random_llama(1, tied=tied).source)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    entries = sum(parameter.numel() for parameter in model.parameters())
    assert weight_bytes(read_checkpoint(folder), "float32") == 4 * entries
    assert weight_bytes(read_checkpoint(folder), "float16") == 2 * entries


def test_the_cache_takes_what_the_real_models_cache_takes() -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=32,
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        cache = model(torch.zeros(1, 7, dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert 7 * cache_bytes_per_token(config.to_dict(), "float32") == held


def test_a_token_of_llama_3_takes_128_kib() -> None:
    assert cache_bytes_per_token(LLAMA_3_8B, "bfloat16") == 131072


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (LLAMA_3_8B | {"num_key_value_heads": None}, 4 * 131072),
        (LLAMA_3_8B | {"head_dim": 256}, 2 * 131072),
        ({"num_hidden_layers": 1, "hidden_size": 1, "text_config": LLAMA_3_8B}, 131072),
        ({"num_attention_heads": 32, "text_config": LLAMA_3_8B | {"num_attention_heads": None}}, 131072),
    ],
    ids=["every head its own keys", "heads of their own width", "a text part", "a text part that says less"],
)
def test_the_size_of_a_token_follows_the_config(config: dict[str, Any], size: int) -> None:
    assert cache_bytes_per_token(config, "bfloat16") == size


def test_a_config_that_does_not_tell_the_cache_asks_for_its_size() -> None:
    silent = checkpoint(num_attention_heads=None)
    with pytest.raises(RefusedInput, match=r"num_attention_heads.*kv_cache_memory_bytes"):
        need([silent], vllm())
    assert need([silent], vllm(kv_cache_memory_bytes=5)).cache == 5


def test_the_longest_sequence_is_the_models_own() -> None:
    assert longest_sequence(LLAMA_3_8B) == 8192
    assert longest_sequence({"text_config": LLAMA_3_8B}) == 8192
    assert longest_sequence({"n_positions": 1024}) == 1024
    assert longest_sequence({}) == 2048


def test_the_cache_holds_a_batch_but_no_more_than_4_gib() -> None:
    token = cache_bytes_per_token(LLAMA_3_8B, "bfloat16")
    sizes = [default_cache_bytes(LLAMA_3_8B, "bfloat16", 1000, batch) for batch in (1, 2, 64)]
    assert sizes == [(1024 + 128) * token, (2 * 1024 + 128) * token, 4 * GIB]


def test_the_cache_holds_the_longest_sequence_even_beyond_4_gib() -> None:
    token = cache_bytes_per_token(LLAMA_3_8B, "bfloat16")
    assert default_cache_bytes(LLAMA_3_8B, "bfloat16", 131072, 64) == (131072 + 128) * token


def test_vllm_gets_of_a_gpu_what_the_parents_leave() -> None:
    assert gpu_share(20 * GIB, 80 * GIB) == pytest.approx(0.67)
    with pytest.raises(RefusedInput, match=r"70.0 GiB of a GPU's 80.0 GiB.*fewer parents"):
        gpu_share(70 * GIB, 80 * GIB)


# -- what a study needs


def test_a_study_needs_its_parents_and_one_model() -> None:
    needed = need([checkpoint(1000), checkpoint(3000, "BF16")], EnginePlan(dtype="bfloat16"))
    assert (needed.parents, needed.model, needed.cache) == (8000, 6000, 0)
    assert needed.mapped == 6000, "only what is stored in the plan's dtype is mapped"
    assert needed.total == 14000


def test_every_rank_holds_the_parents_and_a_share_of_model_and_cache() -> None:
    parents = [checkpoint(1000), checkpoint(1000, "BF16")]
    alone, four = need(parents, vllm()), need(parents, vllm(tensor_parallel_size=4))
    assert (four.parents, four.mapped) == (4 * alone.parents, 4 * alone.mapped)
    assert (four.model, four.cache) == (alone.model, alone.cache)
    assert need(parents, vllm(tensor_parallel_size=4, kv_cache_memory_bytes=100)).cache == 400


@pytest.mark.parametrize(
    ("length", "tokens"), [(1024, 1024), (None, 8192), ("auto", 8192), ("4k", 8192), (-1, 8192)]
)
def test_vllms_own_length_counts_where_it_is_a_number(length: object, tokens: int) -> None:
    options = {} if length is None else {"max_model_len": length}
    assert need([checkpoint()], vllm(**options)).cache == default_cache_bytes(
        LLAMA_3_8B, "bfloat16", tokens, 2
    )


def test_the_first_parent_gives_the_sequences_length() -> None:
    short, long = checkpoint(max_position_embeddings=256), checkpoint()
    assert need([short, long], vllm()).cache < need([long, short], vllm()).cache


# -- what the machine has


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A function that writes a file of a made-up machine with 1000 KiB available; it has no GPU."""
    monkeypatch.setattr(machine_module, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine_module, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    write("proc/meminfo", "MemTotal:  9000 kB\nMemFree:   10 kB\nMemAvailable:   1000 kB\n")
    return write


def test_a_cpu_gives_what_the_system_has_available(machine) -> None:
    assert available("cpu") == available("auto") == 1000 * 1024


def test_a_system_without_proc_is_not_known(machine, tmp_path: Path) -> None:
    (tmp_path / "proc" / "meminfo").unlink()
    assert available("cpu") is None


def test_a_cgroup_allows_less_than_the_system(machine) -> None:
    machine("proc/self/cgroup", "0::/box\n")
    machine("cgroup/box/memory.max", "5000\n")
    machine("cgroup/box/memory.current", "4000\n")
    assert available("cpu") == 1000
    machine("cgroup/box/memory.stat", "anon 10\ninactive_file 300\nactive_file 200\nslab 7\n")
    assert available("cpu") == 1500, "files that are merely cached make room"
    machine("cgroup/box/memory.max", "max\n")
    assert available("cpu") == 1000 * 1024


def test_the_tightest_of_the_cgroups_around_the_process_counts(machine) -> None:
    machine("proc/self/cgroup", "0::/outer/inner\n")
    for group, limit in (("", 9000), ("outer/", 700), ("outer/inner/", 5000)):
        machine(f"cgroup/{group}memory.max", str(limit))
        machine(f"cgroup/{group}memory.current", "100")
    assert available("cpu") == 600


def test_a_container_that_sees_its_own_cgroup_as_the_root_is_limited_by_it(machine) -> None:
    machine("proc/self/cgroup", "0::/docker/0123abcd\n")
    machine("cgroup/memory.max", "5000")
    machine("cgroup/memory.current", "1000")
    assert available("cpu") == 4000


def test_a_cgroup_of_the_first_version_counts_all_that_lies_below_it(machine) -> None:
    machine("proc/self/cgroup", "5:cpu,cpuacct:/cpu\n4:memory:/box\n1:name=systemd:/\n0::/\n")
    machine("cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    machine("cgroup/memory/memory.usage_in_bytes", "100000")
    machine("cgroup/memory/box/memory.limit_in_bytes", "5000")
    machine("cgroup/memory/box/memory.usage_in_bytes", "4900")
    machine("cgroup/memory/box/memory.stat", "inactive_file 1\ntotal_inactive_file 40\ntotal_active_file 2\n")
    assert available("cpu") == 142


def test_a_gpu_gives_what_nvidia_smi_calls_free_on_as_many_as_are_used(machine) -> None:
    machine("bin/nvidia-smi", "#!/bin/sh\necho 100\necho 81000\necho 300\n")
    assert available("cuda") == available("auto") == 81000 << 20
    assert available("cuda", ranks=2) == 81300 << 20
    assert available("cpu") == 1000 * 1024


def test_only_the_gpus_that_torch_sees_count(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("bin/nvidia-smi", '#!/bin/sh\ncase "$*" in *"-i 1") echo 200;; *) echo 81000; echo 200;; esac\n')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert available("cuda") == 200 << 20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert available("auto") == available("cpu")


@pytest.mark.parametrize("script", ["echo [N/A]", "exit 9", "echo; exit 0"])
def test_a_gpu_that_does_not_tell_is_not_known(machine, script: str) -> None:
    machine("bin/nvidia-smi", f"#!/bin/sh\n{script}\n")
    assert available("cuda") is None


# -- the refusal


def test_what_does_not_fit_is_refused_with_its_parts_and_what_to_do(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda *_: 20 * GIB)
    eight = [checkpoint(8_000_000_000), checkpoint(8_000_000_000)]
    with pytest.raises(RefusedInput) as refusal:
        require_memory(eight, vllm(max_model_len=8192))
    for words in ("46.7 GiB of cpu memory", "parents 29.8", "model 14.9", "cache 2.0", "20.0 GiB are"):
        assert words in str(refusal.value)
    for words in (
        "fewer parents",
        "parents are stored in",
        "engine.options.max_model_len",
        "another machine",
    ):
        assert words in str(refusal.value)
    with pytest.raises(RefusedInput) as refusal:
        require_memory(eight, EnginePlan(dtype="float32", device="cuda"))
    assert "89.4 GiB of cuda memory" in str(refusal.value)
    assert "a smaller engine.dtype" in str(refusal.value)
    assert "engine.options" not in str(refusal.value), "the transformers engine has none"


def test_what_just_fits_is_not_refused(monkeypatch) -> None:
    engine = EnginePlan(dtype="bfloat16", device="cuda")
    monkeypatch.setattr(memory, "available", lambda *_: 6000)
    assert require_memory([checkpoint(1000), checkpoint(1000)], engine).total == 6000
    monkeypatch.setattr(memory, "available", lambda *_: 5999)
    with pytest.raises(RefusedInput):
        require_memory([checkpoint(1000), checkpoint(1000)], engine)


def test_parents_that_a_cpu_maps_from_their_files_need_not_fit(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda *_: 2000)
    mapped = [checkpoint(1000, "BF16")] * 2
    assert require_memory(mapped, EnginePlan(device="cpu")).parents == 4000
    with pytest.raises(RefusedInput):
        require_memory(mapped, EnginePlan(device="cuda"))
    with pytest.raises(RefusedInput):
        require_memory([checkpoint(1000)] * 2, EnginePlan(device="cpu"))


def test_workers_on_cpus_each_hold_a_model_and_share_the_mapped_parents() -> None:
    parents = [
        checkpoint(dtype="BF16"),
        checkpoint(dtype="F32"),
    ]  # one is mapped
    engine = vllm(kv_cache_memory_bytes=500)
    one, many = need(parents, engine), engine.model_copy(update={"workers": 3})
    together = of_workers(one, many)
    assert (one.parents, one.mapped) == (4000, 2000)
    assert (together.parents, together.model, together.cache) == (2000 + 3 * 2000, 6000, 1500)
    assert of_workers(one, engine) == one


def test_workers_that_do_not_fit_together_are_refused(monkeypatch) -> None:
    engine = vllm(kv_cache_memory_bytes=500).model_copy(update={"workers": 3})
    for room, fits in ((19500, True), (19499, False)):
        monkeypatch.setattr(memory, "available", lambda device, ranks, room=room: room)
        refused = pytest.raises(RefusedInput, match=r"fewer engine\.workers")
        with contextlib.nullcontext() if fits else refused:
            require_memory([checkpoint(dtype="F32"), checkpoint(dtype="F32")], engine)


def test_nothing_is_refused_where_the_memory_is_not_known(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda *_: None)
    assert require_memory([checkpoint(10**15)], vllm()).total > 10**15


# -- in a study


@pytest.fixture
def no_weight_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(checkpoint: Checkpoint) -> str:
        pytest.fail(f"{checkpoint.directory}'s weights were read")

    monkeypatch.setattr("recipesearch.parents.identify.content_digest", read)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command on a plan's file, as JSON, and returns its exit code."""

    def run(name: str, plan: Plan) -> int:
        study = plan.folder / f"{plan.name}.yaml"
        monkeypatch.setattr(sys, "argv", ["recipesearch", name, str(study), "--json"])
        return cli._run()

    return run


@pytest.mark.parametrize("name", ["check", "run"])
def test_a_study_that_cannot_fit_ends_with_3_before_a_weight_is_read(
    command: Command, make_plan: MakePlan, no_weight_read, monkeypatch, capsys, name: str
) -> None:
    plan = make_plan()
    monkeypatch.setattr(memory, "available", lambda *_: 1000)
    assert command(name, plan) == 3
    said = capsys.readouterr()
    assert "of cpu memory (parents" in said.err
    assert said.out == ""
    assert not list(plan.folder.glob("*.db"))


def test_located_parents_are_refused_whatever_the_others_are(
    make_plan: MakePlan, no_weight_read, monkeypatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda *_: 1000)
    with pytest.raises(RefusedInput, match="of cpu memory"):
        preflight(make_plan(parents={"inner": "inner.yaml", "lang": "zoo:lang"}))


def test_parents_that_are_recipes_count_once_they_are_identified(
    make_plan: MakePlan, zoo: Path, monkeypatch
) -> None:
    plan = make_plan(parents={"inner": "inner.yaml", "lang": "zoo:lang", "math": "zoo:math"})
    recipe = {"merge_method": "linear", "models": [{"model": "zoo:math", "parameters": {"weight": 1}}]}
    (plan.folder / "inner.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(memory, "available", lambda *_: 5 * size)
    size = weight_bytes(read_checkpoint(zoo / "math"), "bfloat16")
    bfloat16 = plan.model_copy(update={"engine": plan.engine.model_copy(update={"dtype": "bfloat16"})})
    counted = preflight(bfloat16)
    assert estimate(counted, 1)["memory_bytes"] == 4 * size
    monkeypatch.setattr(memory, "available", lambda *_: 4 * size - 1)
    with pytest.raises(RefusedInput, match="of cpu memory"):
        preflight(bfloat16)


def test_a_plan_that_is_not_run_needs_no_memory(make_plan: MakePlan, zoo: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda *_: 1000)
    assert preflight(make_plan(), to_run=False).space.genes


def test_check_tells_the_parts_of_the_memory(
    command: Command, make_plan: MakePlan, zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("check", make_plan()) == 0
    data = json.loads(capsys.readouterr().out)
    size = weight_bytes(read_checkpoint(zoo / "math"), "float32")
    assert [data[f"{part}_bytes"] for part in ("parents", "model", "cache")] == [2 * size, size, 0]
    assert data["memory_bytes"] == 3 * size


@pytest.fixture
def loop(make_plan: MakePlan, small_tasks: dict[str, str]) -> Callable[..., Plan]:
    """A function (changes to ``mutation``) -> the first era's plan of a loop."""

    def make(**mutation: Any) -> Plan:
        plan = make_plan(
            preference=[small_tasks["addition_b_preference"]], mutation={"eras": 3, "pool": 6} | mutation
        )
        return load_plans(plan.folder / "study.yaml")[0]

    return make


def test_the_estimate_of_a_loop_is_of_all_eras_with_all_places_taken(
    loop: Callable[..., Plan], zoo: Path
) -> None:
    plan = loop()
    checked = preflight(plan)
    told = estimate(checked, 100)
    alone = estimate(replace(checked, plan=plan.model_copy(update={"mutation": None})), 100)
    size = weight_bytes(read_checkpoint(zoo / "math"), "float32")
    assert (told["parents"], told["eras"], told["most_parents"]) == (2, 3, 6)
    assert [told[f"{part}_bytes"] for part in ("parents", "model", "memory")] == [6 * size, size, 7 * size]
    assert told["recipes"] == 3 * alone["recipes"] == 3 * plan.search.trials
    # Parents that are yet to be bred bring genes of their own.
    assert 3 * alone["database_bytes"] < told["database_bytes"] < 9 * alone["database_bytes"]


def test_a_first_population_of_variants_may_be_larger_than_the_pool(loop: Callable[..., Plan]) -> None:
    variants = {name: {"of": "math"} for name in ("one", "two")}
    plan = loop(pool=3, variants=variants, mutants=1)
    assert plan.most_parents == 4
    assert plan.model_copy(update={"parents": plan.parents | {"one": "zoo:math"}}).most_parents == 4
    assert plan.model_copy(update={"after": "study.e1"}).most_parents == 3


def test_what_is_not_bred_yet_counts_as_the_largest_and_is_mapped_from_its_file() -> None:
    engine = EnginePlan(dtype="bfloat16")
    needed = need([checkpoint(1000, "F32"), checkpoint(2000, "BF16")], engine, None, 4)
    assert (needed.parents, needed.model) == (2 * (1000 + 3 * 2000), 2 * 2000)
    assert needed.mapped == 2 * 3 * 2000
    assert need([checkpoint()] * 3, engine, None, 2) == need([checkpoint()] * 3, engine)


def test_a_pool_that_no_gpu_holds_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda *_: 10_000)
    engine = EnginePlan(dtype="bfloat16", device="cuda")
    assert require_memory([checkpoint()], engine, None, 4).total == 10_000
    with pytest.raises(RefusedInput, match=r"fewer parents or a smaller mutation\.pool or another machine"):
        require_memory([checkpoint()], engine, None, 5)
    with pytest.raises(RefusedInput, match="fewer parents or another machine"):
        require_memory([checkpoint()] * 5, engine)


# -- references without their weights


def test_a_folder_is_located_and_what_is_no_folder_yet_is_not(zoo: Path, tmp_path: Path) -> None:
    assert locate("zoo:math", tmp_path) == zoo / "math"
    assert locate("math", zoo) == zoo / "math"
    assert locate("inner.yaml", tmp_path) is None
    assert locate("math+adapter", zoo) is None

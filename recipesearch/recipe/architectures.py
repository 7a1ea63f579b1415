"""How the layers of each architecture write to the residual stream, which layer spaces depend on. Light.

A layer adds the outputs of its attention and its MLP to the stream. If the matrices that produce these
outputs are zero, the layer is an identity. Dividing them by a number is equivalent to scaling the stream
between layers, if every layer reads the stream through a norm and adds its output unchanged (see
``space/layers.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Residual:
    """The tensors with which a layer of an architecture writes to the residual stream.

    ``writers`` are substrings of these tensors' names, biases included. ``pre_norm``: a layer's output is
    added to the stream unchanged. A post-norm family normalises the output first, so the scale of its
    writers has no effect.
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

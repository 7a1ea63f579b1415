"""The section ``engine``: where candidates live and are scored."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from .section import Section

# vLLM's arguments that are not the user's: what is merged and scored decides them.
# Options that decide how much fits, not what is computed: a study may go on with others.
ROOM_OPTIONS = {"gpu_memory_utilization", "kv_cache_memory_bytes"}
_SET_BY_US = ("model", "tokenizer", "dtype", "seed", "worker_extension_cls", "quantization", "enable_lora")


class EnginePlan(Section):
    """Where candidates live and are scored.

    ``options`` are vLLM's own engine arguments, passed on as they are. A candidate that takes longer than
    ``timeout`` seconds to load and score has failed.
    """

    kind: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    chat_template: bool = False
    timeout: int = Field(default=3600, ge=1)
    options: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _options_of_vllm(self) -> Self:
        if self.options and self.kind != "vllm":
            raise ValueError(f"options are vLLM's: the {self.kind} engine has none")
        for name in self.options:
            if name in _SET_BY_US:
                raise ValueError(f"options: '{name}' follows from the rest of the study file; leave it out")
        return self

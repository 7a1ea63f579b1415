"""The section ``engine``: the engine that loads and scores candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .section import Section


@dataclass(frozen=True)
class EngineTraits:
    """The differences between engines that other rooms need.

    ``fixed_depth``: the live model has one number of layers for the whole study. ``reserves_cache``: the
    engine reserves its KV cache when it starts. ``takes_options``: ``engine.options`` are passed on to the
    engine. They may not contain ``settled`` options, which follow from the rest of the study file.
    ``room_options`` limit memory and do not change results, so a study may be resumed with other values.
    """

    fixed_depth: bool = False
    reserves_cache: bool = False
    takes_options: bool = False
    settled: frozenset[str] = frozenset()
    room_options: frozenset[str] = frozenset()


ENGINES: Mapping[str, EngineTraits] = {
    "transformers": EngineTraits(),
    "vllm": EngineTraits(
        fixed_depth=True,
        reserves_cache=True,
        takes_options=True,
        settled=frozenset(
            ("model", "tokenizer", "dtype", "seed", "worker_extension_cls", "quantization", "enable_lora")
        ),
        room_options=frozenset(("gpu_memory_utilization", "kv_cache_memory_bytes")),
    ),
}


class EnginePlan(Section):
    """The engine that holds the live model.

    ``options`` are vLLM's engine arguments, passed on unchanged. A candidate fails if loading and scoring
    take longer than ``timeout`` seconds. ``workers`` score recipes at the same time, each with an engine of
    its own; ``auto`` is one for each GPU or group of GPUs that an engine needs.
    """

    kind: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    chat_template: bool = False
    timeout: int = Field(default=3600, ge=1)
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    options: dict[str, Any] = Field(default={})

    @property
    def traits(self) -> EngineTraits:
        """The traits of this kind of engine."""
        return ENGINES[self.kind]

    @property
    def deciding_options(self) -> dict[str, Any]:
        """The options that can change a score."""
        return {key: value for key, value in self.options.items() if key not in self.traits.room_options}

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.options and not self.traits.takes_options:
            raise ValueError(f"the {self.kind} engine takes no options; remove 'options', or use kind: vllm")
        for name in self.options:
            if name in self.traits.settled:
                raise ValueError(f"options: '{name}' follows from the rest of the study file; remove it")
        return self

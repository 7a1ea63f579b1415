"""One fine-tuning: trl's DPOTrainer or SFTTrainer trains a LoRA on a model and writes an adapter folder."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer, apply_chat_template

from ..engines.opening import choose_device
from ..errors import StudyError
from ..files import whole_folder
from ..merging.materialize import directories
from ..scoring.preferences import Pair, Text
from .training_order import LINEAGE, PAIRS, Trained, TrainingOrder
from .watch import Watch

_AT_ONCE = 4  # maximum pairs per step on a GPU; a larger batch is accumulated
_HELD = 64  # maximum number of held-back pairs
_LOGS = 20  # number of checks of margin and loss during a training


def train(order: TrainingOrder) -> Trained:
    """Trains an order's adapter and writes its folder, completely or not at all.

    Deterministic for one order on one machine. Raises StudyError if the folder exists or cannot be written.
    """
    begun = time.monotonic()
    if order.threads:
        torch.set_num_threads(order.threads)
    on_gpu = choose_device(order.device) == "cuda"
    dtype = order.dtype if on_gpu else "float32"
    folder = directories([order.source])[order.source]
    set_seed(order.seed)  # a LoRA is initialised randomly
    tokenizer = AutoTokenizer.from_pretrained(folder)
    kept, pairs = order.preferences.kept, _alike(order.preferences.pairs, tokenizer)
    if not kept:
        kept, pairs = _held_back(pairs, tokenizer)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to("cuda" if on_gpu else "cpu")
    lora = LoraConfig(
        r=order.plan.rank,
        lora_alpha=2 * order.plan.rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    strip = _bos(tokenizer)
    watch = Watch([(strip(prompt), answer) for prompt, answer in kept], tokenizer, order.plan)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(order, model, tokenizer, lora, pairs, Path(scratch))
        if not len(trainer.train_dataset):  # trl drops prompts that fill max_length
            raise StudyError(
                f"all prompts have {order.plan.max_length} tokens or more; raise mutation.max_length"
            )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watch)
        before = watch.perplexity(trainer.model)
        trainer.train()
    tuned = trainer.model
    trained = Trained(
        steps=trainer.state.global_step,
        stopped=watch.reason,
        perplexity=(_finite(before), _finite(watch.perplexity(tuned))),
        kl=_finite(watch.divergence(tuned)),
        margin=_finite(watch.margin),
        tokens=int(trainer.state.num_input_tokens_seen),
        seconds=time.monotonic() - begun,
    )
    _write(order, tuned, trained)
    return trained


def _finite(value: float | None) -> float | None:
    """The value, or None if it is not finite: PostgreSQL's JSON does not accept NaN."""
    return value if value is not None and math.isfinite(value) else None


def _alike(pairs: Sequence[Pair], tokenizer: Any) -> Sequence[Pair]:
    """All pairs as texts if only some are messages: a data set's column has values of one type."""
    chats = sum(not isinstance(pair.prompt, str) for pair in pairs)
    if chats and not tokenizer.chat_template:
        raise StudyError("the tokenizer has no chat template; give the pairs as texts")
    return [_as_text(pair, tokenizer) for pair in pairs] if 0 < chats < len(pairs) else pairs


def _as_text(pair: Pair, tokenizer: Any) -> Pair:
    """A pair rendered by the chat template, its answers without the EOS, which trl adds itself."""
    if isinstance(pair.prompt, str):
        return pair
    said = apply_chat_template(asdict(pair), tokenizer)
    eos = tokenizer.eos_token
    return Pair(said["prompt"], _unended(said["chosen"], eos), _unended(said["rejected"], eos))


def _unended(answer: str, eos: str | None) -> str:
    """An answer without the EOS and the whitespace with which most chat templates end a turn."""
    bare = answer.rstrip()
    return bare.removesuffix(eos) if eos and bare.endswith(eos) else answer


def _held_back(pairs: Sequence[Pair], tokenizer: Any) -> tuple[tuple[tuple[str, str], ...], Sequence[Pair]]:
    """Splits the pairs into held-back (prompt, answer) texts for the Watch, and training pairs.

    A tenth of the pairs is held back, because no right answers of the model itself are known.
    """
    size = min(len(pairs) // 10, _HELD)
    held = [_as_text(pair, tokenizer) for pair in pairs[:size]]
    return tuple((str(pair.prompt), str(pair.chosen)) for pair in held), pairs[size:]


def _trainer(
    order: TrainingOrder, model: Any, tokenizer: Any, lora: LoraConfig, pairs: Sequence[Pair], scratch: Path
) -> Any:
    plan, on_gpu = order.plan, model.device.type == "cuda"
    batch = min(plan.batch, len(pairs))
    at_once = max(n for n in range(1, _AT_ONCE + 1) if batch % n == 0) if on_gpu else batch
    common: dict[str, Any] = {
        "output_dir": str(scratch),
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": batch // at_once,
        "max_steps": plan.steps,
        "learning_rate": plan.learning_rate,
        "warmup_steps": max(1, plan.steps // 10),
        "max_length": plan.max_length,
        "seed": order.seed,
        "use_cpu": not on_gpu,
        "bf16": model.dtype == torch.bfloat16,
        "gradient_checkpointing": on_gpu,
        "include_num_input_tokens_seen": "all",
        "logging_steps": max(1, plan.steps // _LOGS),
        "logging_nan_inf_filter": False,  # the filter would hide a NaN loss from Watch
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    strip = _bos(tokenizer)
    if plan.kind == "dpo":
        rows = [{"prompt": strip(p.prompt), "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
        return DPOTrainer(
            model,
            args=DPOConfig(beta=plan.beta, **common),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=lora,
        )
    rows = [{"prompt": strip(p.prompt), "completion": p.chosen} for p in pairs]
    return SFTTrainer(
        model,
        args=SFTConfig(**common),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
    )


def _bos(tokenizer: Any) -> Any:
    """A function that removes the BOS from a text if the tokenizer adds a BOS itself."""
    bos = tokenizer.bos_token
    adds = bos is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]

    def strip(prompt: Text) -> Text:
        return prompt.removeprefix(bos) if adds and isinstance(prompt, str) else prompt

    return strip


def _write(order: TrainingOrder, tuned: Any, trained: Trained) -> None:
    """Writes the adapter, its training pairs and its lineage into one folder."""
    pairs = "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in order.preferences.pairs)
    record = {
        **order.record(),
        "versions": {name: version(name) for name in ("peft", "torch", "transformers", "trl")},
        "trained": asdict(trained),
    }
    try:
        with whole_folder(order.target) as partial:
            tuned.save_pretrained(partial)
            _settle(partial / "adapter_config.json", order.base_name)
            (partial / "README.md").unlink(missing_ok=True)  # peft's unfilled model card
            (partial / PAIRS).write_text(pairs, "utf-8")
            (partial / LINEAGE).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    except FileExistsError as error:
        raise StudyError(
            f"{order.target} exists, from another run; wait for that run or remove the folder"
        ) from error
    except OSError as error:
        raise StudyError(
            f"cannot write {order.target}: {error.strerror or error}; free some space"
        ) from error


def _settle(path: Path, base_name: str) -> None:
    """Makes an adapter's config identical on every machine and in every process.

    peft writes the local path of the model, and a set in the order of its hashes.
    """
    config = json.loads(path.read_text("utf-8"))
    config |= {"base_model_name_or_path": base_name, "target_modules": sorted(config["target_modules"])}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")

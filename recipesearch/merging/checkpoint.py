"""A merged model as a folder that transformers, mergekit and vLLM load: complete, or absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from mergekit.io.tensor_writer import TensorWriter
from safetensors import SafetensorError
from transformers import PretrainedConfig

from ..errors import StudyError
from ..files import whole_folder
from ..parents.headers import COMPANIONS
from .vocabulary import Vocabulary

_SHARD_BYTES = 5_000_000_000


def write_checkpoint(
    config: PretrainedConfig,
    stream: Iterable[tuple[str, torch.Tensor]],
    donor: Path,
    target: Path,
    vocabulary: Vocabulary | None = None,
) -> Path:
    """Writes merged tensors as a model folder and returns ``target``.

    ``config`` is the result's (see ``layered.output_config``). ``donor`` is the folder of the recipe's base
    (else first parent), which gives the tokenizer, as in mergekit, unless there is a ``vocabulary``. Raises
    StudyError when the disk is full or the target is taken; then nothing is left there.
    """
    try:
        with whole_folder(target) as partial:
            writer = TensorWriter(str(partial), max_shard_size=_SHARD_BYTES, safe_serialization=True)
            for name, tensor in stream:
                writer.save_tensor(name=name, tensor=tensor.cpu(), clone=True)
            writer.finalize()
            if vocabulary is not None:
                vocabulary.write(config, partial)
            config.save_pretrained(partial)
            # With a tokenizer of its own mergekit takes nothing along, the generation config neither.
            for name in COMPANIONS if vocabulary is None else ():
                if (donor / name).exists():
                    shutil.copy(donor / name, partial / name)
    except FileExistsError as error:
        raise StudyError(str(error)) from error
    except (OSError, SafetensorError) as error:  # the latter is how safetensors reports a full disk
        raise StudyError(
            f"cannot write {target}: {getattr(error, 'strerror', None) or error}; nothing was left there, "
            "free some space or name another folder"
        ) from error
    return target

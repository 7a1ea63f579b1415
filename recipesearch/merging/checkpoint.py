"""A merged model as a folder that transformers, mergekit and vLLM can load: complete or absent."""

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

    ``config`` is the config of the result (see ``layered.output_config``). ``donor`` is the folder of the
    recipe's base (else its first parent). It gives the tokenizer, as in mergekit, unless there is a
    ``vocabulary``. Raises StudyError if the disk is full, or if the target exists and is not empty. A failure
    leaves nothing at the target.
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
            # When mergekit writes a tokenizer, it copies no other file, not even the generation config.
            for name in COMPANIONS if vocabulary is None else ():
                if (donor / name).exists():
                    shutil.copy(donor / name, partial / name)
    except FileExistsError as error:
        raise StudyError(str(error)) from error
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk this way
        raise StudyError(
            f"cannot write {target}: {getattr(error, 'strerror', None) or error}; nothing was left there; "
            "free some space or name another folder"
        ) from error
    return target

"""The zoo's tokenizer: each character is one token. Loads tokenizers and transformers."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from .definition import ARCHITECTURE
from .language import ALPHABET, END, PAD, UNKNOWN


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer without a BOS token, whose decoder joins characters without spaces."""
    vocabulary = {character: place for place, character in enumerate(ALPHABET)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=ARCHITECTURE["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )

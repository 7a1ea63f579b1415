"""Models that speak another vocabulary than the one they were derived from."""

import json
import random
import shutil
from pathlib import Path

# Plain ones are single characters, since the zoo's tokenizer splits texts into those.
PLAIN = ("é", "ü", "ß", "ø", "å", "ñ", "ç")
SPECIAL = ("<|im_start|>", "<|im_end|>")


def respoken(
    source: Path,
    target: Path,
    plain: tuple = (),
    special: tuple = (),
    drop: tuple = (),
    shuffle: int | None = 7,
) -> Path:
    """A copy of a model that answers as before, its tokens in another order, with new ones and without some.

    The new tokens' rows are random numbers of the size of the others.
    """
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    content = json.loads((target / "tokenizer.json").read_text())
    old = dict(content["model"]["vocab"])
    texts = [text for text in sorted(old, key=old.__getitem__) if text not in drop] + [*plain, *special]
    if shuffle is not None:
        random.Random(shuffle).shuffle(texts)
    new = {text: place for place, text in enumerate(texts)}
    kept = [entry | {"id": new[entry["content"]]} for entry in content["added_tokens"]]
    kept += [kept[0] | {"content": text, "id": new[text]} for text in special]
    content["added_tokens"] = sorted(kept, key=lambda entry: entry["id"])
    content["model"]["vocab"] = {text: place for text, place in new.items() if text not in special}
    (target / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))

    tensors = load_file(target / "model.safetensors")
    generator = torch.Generator().manual_seed(shuffle or 0)
    for name in tensors.keys() & {"model.embed_tokens.weight", "lm_head.weight"}:
        rows = tensors[name]
        fresh = torch.randn(len(new), rows.shape[1], generator=generator) * rows.float().std()
        moved = fresh.to(rows.dtype)
        for text, place in new.items():
            if text in old:
                moved[place] = rows[old[text]]
        tensors[name] = moved
    save_file(tensors, target / "model.safetensors", {"format": "pt"})

    config = json.loads((target / "config.json").read_text()) | {"vocab_size": len(new)}
    by_id = {place: text for text, place in old.items()}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if isinstance(config.get(key), int):
            config[key] = new.get(by_id[config[key]])
    (target / "config.json").write_text(json.dumps(config))
    if (target / "generation_config.json").exists():
        generation = json.loads((target / "generation_config.json").read_text())
        ids = {key: config[key] for key in generation.keys() & config.keys() if key.endswith("_token_id")}
        (target / "generation_config.json").write_text(json.dumps(generation | ids))
    return target

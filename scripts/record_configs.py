"""Records the configs of the hub models in study files, so that tests can check study files without the hub.

    python scripts/record_configs.py studies/evollm_jp_weights.yaml ... [--folder studies/configs]

Downloads the ``config.json`` of each model at the study's revision, and no weights. Writes the unchanged file
to ``FOLDER/org/name.json``, and prints its commit, for the table in ``FOLDER/README.md``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_HUB_MODEL = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?(?:\+.*)?")
_FILES = (".yaml", ".yml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("studies/configs"))
    options = parser.parse_args()
    named = {found for study in options.studies for found in hub_models(study)}
    for name, revision in sorted(named):
        print(f"{name}: commit {record(name, revision, options.folder)}")


def hub_models(study: Path) -> Iterator[tuple[str, str]]:
    """The hub ids among the parents of a study file, with their revisions (empty for the newest)."""
    raw = yaml.safe_load(study.read_text("utf-8"))
    sections: list[dict[str, Any]] = [raw, *raw.get("eras", [])]
    for reference in (r for section in sections for r in section.get("parents", {}).values()):
        match = _HUB_MODEL.fullmatch(reference)
        if match and not match[1].endswith(_FILES) and not (study.parent / match[1]).exists():
            yield match[1], match[2] or ""


def record(name: str, revision: str, folder: Path) -> str:
    """Writes one model's config, and returns the commit of the config."""
    from huggingface_hub import hf_hub_download

    source = Path(hf_hub_download(name, "config.json", revision=revision or None))
    target = folder / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    return source.parent.name


if __name__ == "__main__":
    main()

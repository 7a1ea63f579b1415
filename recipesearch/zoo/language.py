"""The task language: two-digit questions, asked and answered in one of two languages.

A question is seven characters, ``tag d d operator d d =``. Its answer is two numerals of the tag's
language and the end mark: ``@12+34=`` is answered ``eg$``, ``#12+34=`` is answered ``EG$``. Each
character is one token.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

Language = Literal["A", "B"]
Split = Literal["train", "val", "test"]
Pair = tuple[int, int]

PAD, END, UNKNOWN = "_", "$", "?"
DIGITS = "0123456789"
TAGS: Mapping[Language, str] = {"A": "@", "B": "#"}
NUMERALS: Mapping[Language, str] = {"A": "abcdefghij", "B": "ABCDEFGHIJ"}
OPERATORS: Mapping[str, str] = {"add": "+", "max": "^", "min": "v", "cp": "<", "su": ">", "tr": "~"}
ALPHABET = PAD + "@#" + END + DIGITS + NUMERALS["A"] + NUMERALS["B"] + "+-^v<>~=" + UNKNOWN + "*/()!"
"""All 48 characters. A character's index is its token id. ``-`` and the last five are unused."""

ANSWERS: Mapping[str, Callable[[int, int], int]] = {
    "add": lambda first, second: first + second,
    "max": max,
    "min": min,
    "cp": lambda first, second: first,
    "su": lambda first, second: (first + 1) % 100,
    "tr": lambda first, second: second,
}

SPLIT_SEED = 2024
_SPLIT_ENDS: Mapping[Split, tuple[int, int]] = {
    "train": (0, 8000),
    "val": (8000, 9000),
    "test": (9000, 10000),
}


@dataclass(frozen=True)
class Question:
    """One question about a pair of operands, each 0 to 99."""

    kind: str
    language: Language
    pair: Pair

    @property
    def prompt(self) -> str:
        """The model's input. A translation shows its operands in the other language's numerals."""
        digits = DIGITS
        if self.kind == "tr":
            digits = NUMERALS["B" if self.language == "A" else "A"]
        first, second = (_spell(number, digits) for number in self.pair)
        return f"{TAGS[self.language]}{first}{OPERATORS[self.kind]}{second}="

    @property
    def answer(self) -> str:
        """The right output of the model, without the end mark."""
        return _spell(ANSWERS[self.kind](*self.pair), NUMERALS[self.language])


def _spell(number: int, digits: str) -> str:
    return digits[number // 10] + digits[number % 10]


def parse_skill(skill: str) -> tuple[str, Language]:
    """Split a skill's name into kind and language: ``"addB"`` is addition answered in language B."""
    return skill[:-1], "A" if skill[-1] == "A" else "B"


@cache
def pairs(split: Split, kind: str) -> tuple[Pair, ...]:
    """The operand pairs of a split that are valid for a kind, in a fixed random order.

    All languages and kinds share one split, so a pair held out for one kind is held out for all. The split is
    random on purpose: a formula such as ``(31a + 17b) % 5`` removes whole unit-digit combinations from
    training, and addition then never generalises.
    """
    everything = [(first, second) for first in range(100) for second in range(100)]
    random.Random(SPLIT_SEED).shuffle(everything)
    start, end = _SPLIT_ENDS[split]
    return tuple(pair for pair in everything[start:end] if kind != "add" or sum(pair) <= 99)


def draw(mixture: Mapping[str, float], count: int, source: random.Random) -> list[Question]:
    """Draw training questions: skills by their shares in the mixture, pairs from the train split."""
    skills = source.choices(list(mixture), weights=list(mixture.values()), k=count)
    questions = []
    for kind, language in map(parse_skill, skills):
        questions.append(Question(kind, language, source.choice(pairs("train", kind))))
    return questions

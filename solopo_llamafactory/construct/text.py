"""Text normalisation and the search for answers in texts."""

import re
import unicodedata
from collections.abc import Iterable


def normalize(text: str) -> str:
    """Lower-cases, drops accents, and turns everything that is neither letter nor digit into single spaces."""
    if not text.isascii():
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def answer_words(answers: Iterable[str]) -> list[str]:
    """Normalised answers, ready for `has_answer`: without a leading article, padded with spaces."""
    words = []
    for answer in answers:
        normal = normalize(answer)
        # "the Crown" must be found in "a Crown" too.
        normal = re.sub(r"^(?:the|a|an) (?=\w)", "", normal)
        if normal:
            words.append(f" {normal} ")
    return words


def has_answer(padded: str, words: list[str]) -> bool:
    """True when a normalised text, padded with a space on both sides, holds one of the answers as whole words."""
    return any(word in padded for word in words)


def contains_substring(text: str, answers: Iterable[str]) -> bool:
    """True when sub-EM would find an answer in the text: as a plain substring, in any case, inside words too."""
    lower, normal = text.casefold(), normalize(text)
    return any(answer.casefold() in lower or (normalize(answer) or "\0") in normal for answer in answers if answer)

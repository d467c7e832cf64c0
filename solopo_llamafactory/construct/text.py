"""Text normalisation and the search for answers as whole words."""

import re
import unicodedata
from collections.abc import Iterable


def normalize(text: str) -> str:
    """Lower case, without accents and punctuation; numbers keep their decimal point and lose thousands separators."""
    if not text.isascii():
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.casefold())
    text = re.sub(r"(?<=\d)\.(?=\d)", "\0", text)
    return re.sub(r"(?:[^\w\0]|_)+", " ", text).strip().replace("\0", ".")


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

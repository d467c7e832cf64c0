"""Text normalisation and the search for answers as whole words."""

import re
import unicodedata
from collections.abc import Iterable


# Scripts without spaces between words, or, as in Korean, with endings joined to words: each character is a word.
SPACELESS = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)


def normalize(text: str) -> str:
    """Lower case, without accents and punctuation; numbers keep their decimal point and lose thousands separators."""
    if not text.isascii():
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
        text = SPACELESS.sub(r" \1 ", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.casefold())
    text = re.sub(r"\d+(?:\.\d+){2,}", lambda date: date.group().replace(".", " "), text)
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

"""Text normalisation and the search for answers as whole words.

Two texts are compared by what they say, not by how they are written. What counts and what does not:

- Case, punctuation and spaces do not count. Accents do not count in the Latin, Greek and Cyrillic scripts; the marks of every
  other script are letters or parts of them (a katakana voicing mark, a vowel of Hindi or Thai, a final consonant of Korean) and
  count. Compatibility forms (full-width letters and digits, half-width katakana, ligatures) and composed and decomposed
  letters are the same, digits of all scripts are, invisible characters do not count.
- Numbers keep their decimal point and lose thousands separators; `.5` is 0.5; a raised digit or a fraction after a digit is a
  number of its own (10 to the 5th is not 105).
- A minus before a number counts: -5, with a hyphen, an en dash or a minus sign, and "minus 5" are not 5. A dash between
  numbers (1960-1965), in words (New-York) or before a space is none. A plus before a number does not count.
- `+` and `#` directly after a letter or digit count (C++, C#, A+, 18+), and a dash after one or two letters alone does (the
  grade A-, Cl-). A dot before a word counts (.NET).
- Percent and currency signs are words of their own beside the number, as units are: `50%` needs the sign or "percent", 50 is
  found in it; `$5` and "5 $" are the same, and neither is 5 euros.
- All other signs, such as `&`, `*` or an apostrophe, part words as punctuation does. `1960's` is 1960s.
"""

import re
import unicodedata
from collections.abc import Iterable

import regex


# Scripts without spaces between words, or, as in Korean, with endings joined to words: each character is a word, with its marks.
SPACELESS = regex.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff]\p{M}*)"
)
INVISIBLE = regex.compile(r"\p{Cf}+|[\uFE00-\uFE0F]+")
ACCENTS = regex.compile(r"(?<=[\p{Latin}\p{Greek}\p{Cyrillic}])\p{M}+")
RAISED = regex.compile(r"(?<=\d)(\p{No})")  # after a digit, a power or a fraction
OTHER_DIGITS = regex.compile(r"(?![0-9])\d")
SAME_SIGNS = tuple(zip("\u2010\u2011\u2012\u2013\u2212\u266f\u2018\u2019\u201c\u201d", "-----#''\"\""))
# Signs that count are set aside as control characters while all others go.
POINT, MINUS, PLUS, SHARP = "\0\1\2\3"
CURRENCIES = "$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9"
SIGNS = str.maketrans({POINT: ".", MINUS: "-", PLUS: "+", SHARP: "#"})
ASIDE = re.compile(r"[\0-\3]")
NOT_A_WORD = re.compile(rf"(?:[^\w\0-\3%{CURRENCIES}]|_)+")
NOT_A_WORD_BY_SCRIPT = regex.compile(rf"(?:[^\w\p{{M}}\0-\3%{CURRENCIES}]|_)+")


def normalize(text: str) -> str:
    """Lower case, without accents and punctuation, as the module's first lines say; words are parted by one space."""
    if not text.isascii():
        text = _one_form(text)
    text = ASIDE.sub(" ", text).casefold()
    if "," in text:
        text = re.sub(r",(?<=\d,)(?=\d{3}(?!\d))", "", text)
    if "'" in text:
        text = re.sub(r"'(?<=\d')s\b", "s", text)
    if "." in text:
        text = re.sub(r"\d+(?:\.\d+){2,}", lambda date: date.group().replace(".", " "), text)
        text = re.sub(r"\.(?<=\d\.)(?=\d)", POINT, text)
        text = re.sub(r"\.(?<![\w.]\.)(?=\d)", "0" + POINT, text)
        text = re.sub(r"\.(?<![\w.]\.)(?=[^\W_])", POINT, text)
    text = _with_minus(text)
    if "+" in text or "#" in text:
        text = re.sub(r"(?<=[^\W_])(?:\+{2,}|#(?=\d)|[+#]+(?!\w))", _set_aside, text)
    text = _with_units(text)
    return (NOT_A_WORD if text.isascii() else NOT_A_WORD_BY_SCRIPT).sub(" ", text).strip().translate(SIGNS)


def _one_form(text: str) -> str:
    """One form of each letter, digit and dash, without accents; the words of scripts without spaces parted."""
    for sign, plain in SAME_SIGNS:  # faster than translate
        text = text.replace(sign, plain)
    text = RAISED.sub(r" \1", text)
    text = unicodedata.normalize("NFC", ACCENTS.sub("", unicodedata.normalize("NFKD", text)))
    if text.isascii():
        return text
    text = OTHER_DIGITS.sub(lambda digit: str(unicodedata.decimal(digit[0], digit[0])), INVISIBLE.sub("", text))
    return SPACELESS.sub(r" \1 ", text)


def _with_minus(text: str) -> str:
    """A minus set aside where a dash is one."""
    if "minus " in text:
        text = re.sub(r"(?<!\d )\bminus (?=\d)", MINUS, text)
    if "-" in text:
        text = re.sub(rf"-(?<![\w)\]}}%.-]-)(?<!\d\s-)(?=[{CURRENCIES}]?\d)", MINUS, text)
        text = re.sub(r"-(?<=[^\W\d_]-)(?<!\w\w\w-)(?![\w-])", MINUS, text)
    return text


def _with_units(text: str) -> str:
    """Percent and currency signs as words of their own, a currency before its number."""
    if "per" in text:
        text = re.sub(r"(?<=\d)\s*per ?cent\b", "%", text)
    if "%" in text:
        text = text.replace("%", " % ")
    if any(sign in text for sign in CURRENCIES):
        text = re.sub(rf"({MINUS}?\d[\d{POINT}]*)\s?([{CURRENCIES}])(?!\s?\d)", r" \2 \1", text)
        text = re.sub(rf"({MINUS}?)([{CURRENCIES}])", r" \2 \1", text)
        text = re.sub(rf"{MINUS} +(?=\d)", MINUS, text)
    return text


def _set_aside(signs: re.Match) -> str:
    return signs.group().replace("+", PLUS).replace("#", SHARP) + " "


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

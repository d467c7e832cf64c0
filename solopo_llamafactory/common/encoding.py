"""Telling which encoding a text that is not UTF-8 has: the one in which its letters are usual ones."""

from collections.abc import Callable


SAMPLE = 1 << 20  # bytes
WINDOWS_SIGNS = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2022\u2122\u20ac\xa0\xa9\xae\xb0".encode("cp1252")


def encoding_of(content: bytes) -> str | None:
    """The encoding's name as `iconv` knows it, None where none fits.

    Of single-byte encodings the commonest of an alphabet is named: those of one alphabet cannot be told apart.
    """
    for start, name in ((b"\xff\xfe\0\0", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if content.startswith(start):
            return name
    if b"\0" in content:  # JSON begins with two characters of ASCII, whose other byte is 0
        zeros = bytes(byte == 0 for byte in content[:4])
        return {b"\0\1\0\1": "UTF-16LE", b"\1\0\1\0": "UTF-16BE"}.get(zeros)
    shares = {name: _share_of_usual(content[:SAMPLE], name) for name in USUAL}
    best = max(shares, key=shares.get)
    if shares[best] > 0.5:
        return best
    return "CP1252" if _is_english_of_windows(content[:SAMPLE]) else None


def _share_of_usual(content: bytes, name: str) -> float:
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        if error.start < len(content) - 4:  # the sample may end within a character
            return 0
        text = content[: error.start].decode(name)
    letters = [i for i, character in enumerate(text) if character > "\x7f" and character.isalpha()]
    return USUAL[name](text, letters) / max(1, len(letters))


def _is_english_of_windows(content: bytes) -> bool:
    """Whether all that is not ASCII are the quotes, dashes and dots that word processors put in the place of typed ones."""
    return all(byte < 0x80 or byte in WINDOWS_SIGNS for byte in content)


def _count(is_usual: Callable[[str], bool]) -> Callable[[str, list[int]], int]:
    return lambda text, letters: sum(is_usual(text[i]) for i in letters)


def _japanese(text: str, letters: list[int]) -> int:
    """All letters, if a good part is kana: Chinese has none."""
    kana = sum("\u3041" <= text[i] <= "\u30ff" for i in letters)
    return len(letters) if kana >= 0.2 * len(letters) else 0


def _russian(text: str, letters: list[int]) -> int:
    """Cyrillic letters that are not within a word of Latin ones."""

    def is_latin(i: int) -> bool:
        return text[i : i + 1].isascii() and text[i : i + 1].isalpha()

    return sum("\u0400" <= text[i] <= "\u045f" and not is_latin(i - 1) and not is_latin(i + 1) for i in letters)


def _is_in_first_part_of(codec: str, end: int) -> Callable[[str], bool]:
    """Whether a character stands before a lead byte of the codec, where its commonest ones are."""
    return lambda character: b"\xa4" <= character.encode(codec, "ignore")[:1] < bytes([end])


# The first of those with the same share is taken: what is usual in Korean is possible in Chinese, and so on.
USUAL: dict[str, Callable[[str, list[int]], int]] = {
    "CP932": _japanese,
    "EUC-JP": _japanese,
    "CP949": _count(lambda character: b"\xb0" <= character.encode("euc_kr", "ignore")[:1] <= b"\xc8"),
    "GB18030": _count(_is_in_first_part_of("gb2312", 0xD8)),
    "BIG5": _count(_is_in_first_part_of("big5", 0xC9)),
    "CP1251": _russian,
    "CP1252": _count(lambda character: "\xc0" <= character <= "\u0178"),
}

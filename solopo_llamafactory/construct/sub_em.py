"""Whether an answer is right: sub-EM, RULER's `string_match_part`, on the final answer where one is marked.

An answer or alias must be a substring of the text in any case, as in RULER. Light normalisation comes first: accents,
punctuation and repeated spaces do not count. One deviation from RULER: an answer that begins or ends with a digit is not
found inside a longer number, so `1960` is wrong where the text says 21960, 1960.5 or 19,600. Inside words substrings count,
as RULER counts them: `art` is found in "party".
"""

import re
from collections.abc import Sequence

from .text import normalize


# The last one counts, up to the end of its line.
MARKERS = re.compile(
    r"(?<!\bthis )(?<!\bthat )\banswer(?:\s+is\b|\s*(?:\*\*|__)?\s*:)|\\boxed\b|<answer>", re.IGNORECASE
)


def sub_em(text: str, answers: Sequence[str]) -> bool:
    """Whether the text gives one of the answers."""
    return mentions(final_answer(text), answers)


def mentions_after_marker(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the answers stands behind the first marker: a text that is not right is unclear then.

    "**Answer:** Paris. Note: the answer is found in Document 2" is such a text. Before the marker stands reasoning, which
    may well pass the right answer on its way to a wrong one.
    """
    first = MARKERS.search(text)
    return first is not None and mentions(text[first.end() :], answers)


def mentions(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the answers stands anywhere in the text."""
    plain = normalize(text)
    for answer in answers:
        wanted = normalize(answer)
        if wanted:
            before = r"(?<!\d)(?<!\d\.)" if wanted[0].isdigit() else ""
            after = r"(?!\d)(?!\.\d)" if wanted[-1].isdigit() else ""
            if wanted in plain and re.search(before + re.escape(wanted) + after, plain):
                return True
        elif answer.strip() and answer.strip().casefold() in text.casefold():  # signs alone, such as "C++"'s "++"
            return True
    return False


def final_answer(text: str) -> str:
    """What follows the last marker ("The answer is", "Answer:", \\boxed, <answer>), or the whole text without one."""
    last = None
    for last in MARKERS.finditer(text):
        pass
    if last is None:
        return text
    rest = text[last.end() :].strip(" :*_\t")
    lines = rest.strip().splitlines()
    return lines[0] if lines else text

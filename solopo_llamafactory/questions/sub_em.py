"""Whether an answer is right: sub-EM, RULER's `string_match_part`, on the final answer where one is marked.

An answer or alias must be a substring of the text in any case, as in RULER, after the normalisation that text.py describes.
Inside words substrings count, as RULER counts them: `art` is found in "party". Three deviations from RULER, of what is another
thing altogether:

- An answer that begins or ends with a digit is not found inside a longer number: `1960` is wrong where the text says 21960,
  1960.5 or 19,600, `5` where it says -5, and `1960` is not a decade, the 1960s.
- An answer is not found where a sign or a mark of its last letter follows: `C` in "C++", `A` in "A-", a Thai word in one with
  another tone.
- An answer of signs alone (`++`) is looked for in the text as it stands.
"""

from collections.abc import Sequence

import regex

from .text import normalize


# What a final answer stands behind; the last one counts.
MARKERS = regex.compile(
    r"(?<!\bthis )(?<!\bthat )\banswer(?:\s+is\b|\s*(?:\*\*|__)?\s*:)|\\boxed\b|<answer>", regex.IGNORECASE
)
# What a line may hold beside its words: the start of a code fence, tags, LaTeX commands.
MARKUP = regex.compile(
    r"^\s*(?:```|~~~)\s*[\w+#.-]*\s*$|</?[a-z][^<>]*>|\\(?:begin|end)\s*\{[^{}]*\}|\\[a-z]+", regex.IGNORECASE
)
LETTER_OR_DIGIT = regex.compile(r"[\p{L}\p{N}]")


def sub_em(text: str, answers: Sequence[str], markers: regex.Pattern | None = MARKERS) -> bool:
    """Whether the text gives one of the answers.

    Args:
        markers: what the final answer stands behind; None to look through all of the text.
    """
    return mentions(final_answer(text, answers, markers), answers)


def mentions_after_marker(text: str, answers: Sequence[str], markers: regex.Pattern | None = MARKERS) -> bool:
    """Whether one of the answers stands behind the first marker: a text that is not right is unclear then.

    "**Answer:** Paris. Note: the answer is found in Document 2" is such a text. Before the marker stands reasoning, which
    may well pass the right answer on its way to a wrong one.
    """
    first = markers and markers.search(text)
    return first is not None and mentions(text[first.end() :], answers)


def mentions(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the answers stands anywhere in the text."""
    plain = normalize(text)
    for answer in answers:
        wanted = normalize(answer)
        if not wanted:
            if _is_signs(answer) and answer.strip() in text:
                return True
        elif wanted in plain and regex.search(_before(wanted) + regex.escape(wanted) + _after(wanted), plain):
            return True
    return False


def _before(wanted: str) -> str:
    return r"(?<!\d)(?<!\d\.)(?<!-)" if wanted[0].isdigit() else ""


def _after(wanted: str) -> str:
    number = r"(?!\d)(?!\.\d)(?!s\b)" if wanted[-1].isdigit() else ""
    return number + r"(?![+#\p{M}-])"


def _is_signs(answer: str) -> bool:
    """Whether an answer has no letter or digit: "++"."""
    return bool(answer.strip()) and not normalize(answer)


def final_answer(text: str, answers: Sequence[str] = (), markers: regex.Pattern | None = MARKERS) -> str:
    """What the last marker ("The answer is", "Answer:", \\boxed, <answer>) marks, or the whole text without one.

    That is the first line behind it that says something: one with a letter or digit in any script, or with an answer that has
    none. Lines of markup (a code fence with its language, a lone bracket, a tag, a LaTeX command, emphasis) say nothing.
    """
    last = None
    for last in markers.finditer(text) if markers else ():
        pass
    if last is None:
        return text
    rest = text[last.end() :].strip(" :*_\t")
    odd = [answer.strip() for answer in answers if answer.strip() and not _has_words(answer)]  # "++", "<div>"
    for line in rest.splitlines():
        if _has_words(line) or any(answer in line for answer in odd):
            return line.strip()
    return rest.strip() or text


def _has_words(line: str) -> bool:
    """Whether a line has a letter or digit beside its markup."""
    return LETTER_OR_DIGIT.search(MARKUP.sub("", line)) is not None

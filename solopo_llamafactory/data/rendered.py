"""Telling texts that a chat template has rendered already, by the marks of all of the host's templates."""

import re
from functools import cache

from ..host.imports import TEMPLATES


SPECIAL = re.compile(r"<\|?\S|<｜|\[INST\]|\[\|\w|\]~")  # what no text begins a turn with by itself
START = 200  # characters in which the first mark of a rendered text stands


def is_rendered(text: str) -> bool:
    """Whether the text begins with a turn of a chat template or ends where its answer begins."""
    openings, endings, turns = _marks()
    if openings.search(text[:START]) or endings.search(text[-START:]):
        return True
    return any(before in text[:START] and text[-START:].rstrip().endswith(after) for before, after in turns)


@cache
def _marks() -> tuple[re.Pattern, re.Pattern, set[tuple[str, str]]]:
    """Marks that tell by themselves at the start and at the end, and words (User: ... Assistant:) that do so together."""
    openings, endings, turns = set(), set(), set()
    for template in TEMPLATES.values():
        before, ending = _around_content(template.format_user)
        if before and ending.endswith(":"):
            turns.add((before, ending))
        openings |= {before, _around_content(template.format_system)[0]}
        endings.add(ending)
    openings.discard("<unk>")  # of one template; text corpora have it in the place of rare words
    return _any_of(openings), re.compile(f"({_any_of(endings).pattern})\\s*$"), turns


def _around_content(formatter) -> tuple[str, str]:
    text = "".join(slot for slot in formatter.slots if isinstance(slot, str))
    before, _, after = text.partition("{{content}}")
    return before.strip(), after.strip()


def _any_of(marks: set[str]) -> re.Pattern:
    return re.compile("|".join(re.escape(mark) for mark in sorted(marks) if SPECIAL.match(mark)))


def renders_nothing(template) -> bool:
    """Whether a template leaves the user's text as it is, as `template: empty` does."""
    return template.format_user.slots == ["{{content}}"]

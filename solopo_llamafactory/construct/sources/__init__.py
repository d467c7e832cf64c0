"""Readers of question files and data sets: one small class a source, all giving `Question`s."""

import sys

from ..errors import ConstructError
from .generic import GenericSource
from .hotpotqa import HotpotqaSource
from .musique import DemoSource, MusiqueSource
from .questions import Document, Hop, Question
from .two_hop import TwoHopSource
from .twowiki import TwoWikiSource


SOURCES = {
    source.name: source
    for source in (MusiqueSource, HotpotqaSource, TwoWikiSource, GenericSource, DemoSource, TwoHopSource)
}


def read_questions(source: str, input: str) -> list[Question]:
    """All questions of a source's file or data set.

    Raises:
        ConstructError: where there are none.
    """
    questions = list(SOURCES[source]().read(input))
    if not questions:
        raise ConstructError(f"input '{input}' holds no questions: give a file with one JSON object a line.")
    print(f"Read {len(questions)} questions from {input}.", file=sys.stderr)
    return questions


__all__ = ["SOURCES", "DemoSource", "Document", "Hop", "MusiqueSource", "Question", "read_questions"]

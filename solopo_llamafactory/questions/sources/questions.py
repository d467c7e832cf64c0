"""What every source gives: questions with their documents."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..text import answer_words, normalize


@dataclass(frozen=True)
class Document:
    """A titled paragraph."""

    title: str
    text: str


@dataclass(frozen=True)
class Hop:
    """One step to the answer; its question has no placeholders left."""

    question: str
    answer: str
    document: Document


@dataclass(frozen=True)
class Question:
    """A question with its gold paragraphs in hop order. The first of `answers` is the main one, the rest are aliases.

    `hops` is empty where a source does not split its questions into steps; `num_hops` counts the steps all the same.
    `problem` says why the question cannot be used; its documents still serve as distractors of others.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    evidence: tuple[Document, ...]
    distractors: tuple[Document, ...]
    num_hops: int
    hops: tuple[Hop, ...] = ()
    problem: str | None = None


def distinct_answers(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that hold a letter or digit, each once. "." as an alias would be found in every response."""
    return tuple(dict.fromkeys(text for text in texts if answer_words([text])))


def is_yes_or_no(answer: str) -> bool:
    """True for an answer that sub-EM cannot judge: "no" is part of "know" and of "not"."""
    return normalize(answer) in ("yes", "no")

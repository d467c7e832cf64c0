"""Readers of question files: one small class a source, all giving `Question`s."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..json_lines import read_json_lines
from .errors import ConstructError
from .text import answer_words


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

    `problem` says why the question cannot be used; its documents still serve as distractors of others.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    evidence: tuple[Document, ...]
    distractors: tuple[Document, ...]
    hops: tuple[Hop, ...]
    problem: str | None = None


class MusiqueSource:
    """MuSiQue's official JSONL (musique_ans or musique_full)."""

    name = "musique"
    licence = "CC BY 4.0"

    def read(self, path: str) -> Iterator[Question]:
        """Yields one question a line; raises `ConstructError` for a line that is no MuSiQue record."""
        seen: set[str] = set()
        for where, record in read_jsonl(path):
            question = self.parse(_Record(record, where))
            if question.id in seen:
                question = replace(question, problem="id seen before")
            seen.add(question.id)
            yield question

    def parse(self, record: "_Record") -> Question:
        """Turns one record into a `Question`."""
        documents: dict[int, Document] = {}
        supporting: list[int] = []
        for paragraph in record.objects("paragraphs"):
            idx = paragraph.get("idx", int)
            documents[idx] = Document(paragraph.text("title").strip(), paragraph.text("paragraph_text").strip())
            if paragraph.get("is_supporting", bool):
                supporting.append(idx)

        answer, answerable = record.text("answer").strip(), record.get("answerable", bool)
        aliases = record.get("answer_aliases", list)
        if not all(isinstance(alias, str) for alias in aliases):
            record.refuse("answer_aliases", "a list of texts")
        answers = tuple(dict.fromkeys(text for text in (answer, *(alias.strip() for alias in aliases)) if text))

        hops = []
        for step in record.objects("question_decomposition"):
            support = step.get("paragraph_support_idx", (int, type(None)))
            found = [hop.answer for hop in hops]
            if support in documents:
                text = _resolve(step.text("question"), found)
                hops.append(Hop(text, step.text("answer").strip(), documents[support]))
        chain = [hop.document for hop in hops]
        rest = [documents[idx] for idx in supporting if documents[idx] not in chain]
        evidence = tuple(dict.fromkeys(chain + rest))

        problem = None
        if not answerable:
            problem = "unanswerable"
        elif not supporting:
            problem = "no supporting paragraph"
        elif len(hops) < len(record.objects("question_decomposition")) or not hops:
            problem = "a hop without its paragraph"
        elif not answer_words([answer]):
            problem = "empty answer"
        return Question(
            id=record.text("id"),
            text=record.text("question").strip(),
            answers=answers,
            evidence=evidence if problem is None else (),
            distractors=tuple(doc for doc in documents.values() if problem or doc not in evidence),
            hops=tuple(hops),
            problem=problem,
        )


class DemoSource(MusiqueSource):
    """The project's own corpus: fictional, in MuSiQue's schema."""

    name = "demo"
    licence = "Apache-2.0"


SOURCES = {source.name: source for source in (MusiqueSource, DemoSource)}


def read_jsonl(path: str) -> Iterator[tuple[str, dict]]:
    """Yields (where, object) for every line that is not blank; a bad line ends the command by name and number."""
    try:
        for place, record in read_json_lines(path):
            yield f"{path} {place}", record
    except ValueError as error:
        raise ConstructError(str(error)) from None


class _Record:
    """A JSON object whose fields are checked as they are read."""

    def __init__(self, data: dict, where: str) -> None:
        self.data = data
        self.where = where

    def get(self, key: str, kind: Any) -> Any:
        value = self.data.get(key)
        # bool is an int in Python, but no index.
        if key not in self.data or not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            names = {str: "a text", int: "a number", bool: "true or false", list: "a list"}
            self.refuse(key, names.get(kind, "a number or null"))
        return value

    def text(self, key: str) -> str:
        value = self.get(key, str)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            self.refuse(key, "valid Unicode")
        return value

    def objects(self, key: str) -> "list[_Record]":
        items = self.get(key, list)
        if not all(isinstance(item, dict) for item in items):
            self.refuse(key, "a list of objects")
        return [_Record(item, f"{self.where}, {key}[{i}]") for i, item in enumerate(items)]

    def refuse(self, key: str, wanted: str) -> None:
        found = "is missing" if key not in self.data else "is of another kind"
        raise ConstructError(f"{self.where}: field '{key}' {found}, a MuSiQue record has {wanted} there.")


def _resolve(question: str, answers: list[str]) -> str:
    """Puts earlier answers in the place of `#1`, `#2` ..., and reads `x >> relation` as a question."""

    def earlier(match: re.Match) -> str:
        number = int(match.group(1))
        return answers[number - 1] if 1 <= number <= len(answers) else match.group(0)

    text = re.sub(r"#(\d+)", earlier, question)
    if ">>" in text:
        text = ": ".join(part.strip() for part in text.split(">>"))
    text = re.sub(r"\s+([?'.,])", r"\1", text).strip().rstrip("?.")
    return text[:1].upper() + text[1:] + "?"

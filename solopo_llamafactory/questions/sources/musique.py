"""MuSiQue."""

import re
from types import NoneType

from ..text import answer_words
from .base import Source
from .questions import Document, Hop, Question, distinct_answers
from .records import Record


class MusiqueSource(Source):
    """MuSiQue's official schema (musique_ans or musique_full)."""

    name = "musique"
    licence = "CC BY 4.0"
    schema = "MuSiQue"

    def parse(self, record: Record) -> Question:
        documents: dict[int, Document] = {}
        supporting: list[int] = []
        for paragraph in record.objects("paragraphs"):
            idx = paragraph.get("idx", int)
            documents[idx] = Document(paragraph.text("title"), paragraph.text("paragraph_text"))
            if paragraph.get("is_supporting", bool):
                supporting.append(idx)
        steps = record.objects("question_decomposition")
        hops = _hops(steps, documents)
        chain = [hop.document for hop in hops]
        evidence = tuple(dict.fromkeys(chain + [documents[idx] for idx in supporting]))

        answer, answerable = record.text("answer"), record.get("answerable", bool)
        problem = None
        if not answerable:
            problem = "unanswerable"
        elif not supporting:
            problem = "no supporting paragraph"
        elif len(hops) < len(steps) or not hops:
            problem = "a hop without its paragraph"
        elif not answer_words([answer]):
            problem = "empty answer"
        return Question(
            id=record.text("id"),
            text=record.text("question"),
            answers=distinct_answers([answer, *record.texts("answer_aliases")]),
            evidence=evidence,
            distractors=tuple(document for document in documents.values() if document not in evidence),
            num_hops=len(steps),
            hops=hops,
            problem=problem,
        )


def _hops(steps: list[Record], documents: dict[int, Document]) -> tuple[Hop, ...]:
    """The steps that have a paragraph."""
    hops: list[Hop] = []
    for step in steps:
        support = step.get("paragraph_support_idx", (int, NoneType))
        if support in documents:
            text = _resolve(step.text("question"), [hop.answer for hop in hops])
            hops.append(Hop(text, step.text("answer"), documents[support]))
    return tuple(hops)


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

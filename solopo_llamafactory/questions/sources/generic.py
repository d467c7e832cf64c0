"""A schema for your own questions."""

from .base import Source
from .questions import Document, Question, distinct_answers, is_yes_or_no
from .records import Record


class GenericSource(Source):
    """{"id", "question", "answers": [...], "evidence": [{"title", "text"}, ...], "distractors": [...]}.

    Titles and `distractors` may be left out.
    """

    name = "generic"
    licence = "your own"
    schema = "generic"

    def parse(self, record: Record) -> Question:
        evidence, distractors = read_documents(record, "evidence"), read_documents(record, "distractors")
        answers = distinct_answers(record.texts("answers"))
        problem = None
        if not evidence:
            problem = "no evidence"
        elif not answers:
            problem = "no answer"
        elif any(is_yes_or_no(answer) for answer in answers):
            problem = "yes/no answer"
        number = record.get("id", (int, str))
        return Question(
            id=str(number) if isinstance(number, int) else record.text("id"),
            text=record.text("question"),
            answers=answers,
            evidence=evidence,
            distractors=tuple(document for document in distractors if document not in evidence),
            num_hops=max(1, len(evidence)),
            problem=problem,
        )


def read_documents(record: Record, key: str) -> tuple[Document, ...]:
    """Reads a list of {"title", "text"}; none where the field is left out, and none for an empty text."""
    items = record.objects(key) if record.has(key) else []
    return tuple(dict.fromkeys(document for document in map(read_document, items) if document.text))


def read_document(record: Record) -> Document:
    """Reads {"title", "text"}; the title may be left out, a text that is null is empty."""
    is_null = "text" in record.data and not record.has("text")
    return Document(record.text("title") if record.has("title") else "", "" if is_null else record.text("text"))

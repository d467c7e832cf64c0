"""SQuAD, and data sets in its schema such as XQuAD."""

from collections.abc import Iterator

from .base import Source
from .questions import Document, Question, distinct_answers, is_yes_or_no
from .records import Record


class SquadSource(Source):
    """SQuAD's official schema (v1.1 or v2.0), an article a record, or its columns on the Hub, a question a record.

    The evidence is the question's paragraph; distractors are those of other questions, drawn at random as in RULER's QA task.
    """

    name = "squad"
    licence = "CC BY-SA 4.0"
    schema = "SQuAD"

    def questions(self, record: Record) -> Iterator[Question]:
        if not record.has("paragraphs"):
            yield self.parse(record)
            return
        title = _title(record)
        for paragraph in record.objects("paragraphs"):
            document = Document(title, paragraph.text("context"))
            for question in paragraph.objects("qas"):
                yield _question(question, document)

    def parse(self, record: Record) -> Question:
        return _question(record, Document(_title(record), record.text("context")))


def _title(record: Record) -> str:
    """An article's title as Wikipedia shows it; copies on the Hub may come without one."""
    return record.text("title").replace("_", " ") if record.has("title") else ""


def _question(record: Record, document: Document) -> Question:
    texts = _answers(record)
    answers = distinct_answers(texts)
    problem = None
    if not texts or (record.has("is_impossible") and record.get("is_impossible", bool)):
        problem = "impossible"
    elif not answers:
        problem = "no answer"
    elif any(text not in document.text for text in answers):
        problem = "answer not in its paragraph"
    elif any(map(is_yes_or_no, answers)):
        problem = "yes/no answer"
    return Question(
        id=record.text("id"),
        text=record.text("question"),
        answers=answers,
        evidence=(document,),
        distractors=(),
        num_hops=1,
        problem=problem,
    )


def _answers(record: Record) -> list[str]:
    """The answers' texts: [{text, answer_start}, ...] in the official files, {text: [...], answer_start: [...]} on the Hub."""
    value = record.get("answers", (list, dict))
    if isinstance(value, dict):
        return Record(value, f"{record.where}, answers", record.schema).texts("text")
    return [answer.text("text") for answer in record.objects("answers")]

"""What all sources share."""

from collections.abc import Iterator
from dataclasses import replace

from .questions import Question
from .records import Record, read_records


class Source:
    """A data set's schema. `schema` is its name in messages."""

    name: str
    licence: str
    schema: str

    def read(self, path: str) -> Iterator[Question]:
        """Yields the questions of a file or of a data set (see `read_records`).

        Raises:
            SolopoError: for an input that cannot be read, or a record of another schema.
        """
        seen: set[str] = set()
        for where, data in read_records(path):
            for question in self.questions(Record(data, where, self.schema)):
                if question.id in seen:
                    question = replace(question, problem="id seen before")
                elif not question.text and question.problem is None:
                    question = replace(question, problem="empty question")
                seen.add(question.id)
                yield question

    def questions(self, record: Record) -> Iterator[Question]:
        """Yields the questions of one record: one, unless a schema holds several in it."""
        yield self.parse(record)

    def parse(self, record: Record) -> Question:
        """Turns one record into a `Question`."""
        raise NotImplementedError

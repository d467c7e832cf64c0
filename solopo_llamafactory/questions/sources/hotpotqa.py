"""HotpotQA."""

from ...common.errors import SolopoError
from .base import Source
from .questions import Document, Question, distinct_answers, is_yes_or_no
from .records import Record


class HotpotqaSource(Source):
    """HotpotQA's official schema (train, or dev in the distractor setting) or that of its copies on the Hub."""

    name = "hotpotqa"
    licence = "CC BY-SA 4.0"
    schema = "HotpotQA"

    def parse(self, record: Record) -> Question:
        self.check(record)
        documents = self.paragraphs(record)
        titles = dict.fromkeys(_supporting_titles(record))
        by_title = {title: [doc for doc in documents if doc.title == title and doc.text] for title in titles}
        evidence = tuple(dict.fromkeys(doc for title in titles for doc in by_title[title]))

        answers = distinct_answers([record.text("answer")])
        problem = None
        if not titles:
            problem = "no supporting paragraph"
        elif not all(by_title.values()):
            problem = "supporting paragraph missing"
        elif not answers:
            problem = "empty answer"
        elif is_yes_or_no(answers[0]):
            problem = "yes/no answer"
        return Question(
            id=record.text("_id" if "id" not in record.data else "id"),
            text=record.text("question"),
            answers=answers,
            evidence=evidence,
            distractors=tuple(doc for doc in documents if doc not in evidence),
            num_hops=len(titles),
            problem=problem,
        )

    def check(self, record: Record) -> None:
        """Refuses 2WikiMultihopQA's records, which are of this schema otherwise."""
        if record.has("evidences"):
            raise SolopoError(
                f"{record.where}: field 'evidences' is there, a HotpotQA record has none: for 2WikiMultihopQA write "
                "`source: 2wikimultihopqa`."
            )

    def paragraphs(self, record: Record) -> list[Document]:
        """The paragraphs of the context, in their order."""
        wanted = "a list of [title, sentences]"
        return [
            Document(
                record.valid(title, "context", wanted).strip(),
                self.join(record.valid_list(sentences, "context", wanted)).strip(),
            )
            for title, sentences in record.pairs("context", "title", "sentences")
        ]

    def join(self, sentences: list[str]) -> str:
        """Makes a paragraph: HotpotQA's sentences begin with their own spaces."""
        return "".join(sentences)


def _supporting_titles(record: Record) -> list[str]:
    """Titles of the supporting facts, in their order. The sentence numbers are not used: some lead nowhere."""
    wanted = "a list of [title, sent_id]"
    facts = record.pairs("supporting_facts", "title", "sent_id")
    return [record.valid(title, "supporting_facts", wanted).strip() for title, _ in facts]

"""The user message: numbered documents, then the instruction and the question."""

from collections.abc import Sequence

from .sources import Document


INTRODUCTION = "Read the following documents.\n\n"
INSTRUCTION = (
    "Answer the question from the documents above. Think step by step, name the title of each document that you use, "
    "and end with a sentence of the form: The answer is ...\n\nQuestion: "
)


def heading(number: int) -> str:
    """What stands above a document in its context."""
    return f"Document {number}:\n"


def body(document: Document) -> str:
    """A document with the separator that follows it."""
    return f"{document.title}\n{document.text}\n\n"


def make_prompt(documents: Sequence[Document], question: str) -> str:
    """Joins the documents, numbered from 1, and asks the question after them."""
    context = "".join(heading(i) + body(document) for i, document in enumerate(documents, start=1))
    return INTRODUCTION + context + INSTRUCTION + question

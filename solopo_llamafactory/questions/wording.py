"""The wording of the user message: numbered documents between an introduction and the instruction with the question."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import regex

from ..common.config import checked, refuse_unknown
from ..common.errors import SolopoError
from .sources import Document
from .sub_em import MARKERS


PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Of each text with placeholders: those that it must have, and those that it may have.
PLACEHOLDERS = {"document": ({"text"}, {"title", "text", "number"}), "question": ({"question"}, {"question"})}


@dataclass(frozen=True)
class Wording:
    """Texts of a user message; a blank line parts them. Own ones: a mapping of these keys under `wording`."""

    instruction: str = field(
        metadata={"help": "What is to be done with the documents, said behind them (required)."},
    )
    introduction: str | None = field(
        default="Read the following documents.",
        metadata={"help": "What stands before the documents; null for nothing."},
    )
    document: str = field(
        default="Document {number}:\n{title}\n{text}",
        metadata={"help": "Form of a document: {text}, perhaps {title}, and perhaps {number} before both."},
    )
    question: str = field(
        default="Question: {question}",
        metadata={"help": "Form of the question, the last thing said."},
    )
    marker: str | None = field(
        default=None,
        metadata={
            "help": "What the instruction asks to write before the final answer, such as `The answer is`: what follows it "
            "is judged. Leave it out where answers are short, and all of an answer is judged."
        },
    )

    def prompt(self, documents: Sequence[Document], question: str) -> str:
        """Joins the documents, numbered from 1, and asks the question after them."""
        context = "".join(self.heading(i) + self.body(document) for i, document in enumerate(documents, start=1))
        start = f"{self.introduction}\n\n" if self.introduction else ""
        return f"{start}{context}{self.instruction}\n\n{self.question.replace('{question}', question)}"

    def heading(self, number: int) -> str:
        """What stands above a document in its context: its form up to title and text."""
        return self._forms[0].replace("{number}", str(number))

    def body(self, document: Document) -> str:
        """A document with the blank line that follows it."""
        values = {"title": document.title, "text": document.text}
        return PLACEHOLDER.sub(lambda match: values[match[1]], self._forms[1]) + "\n\n"

    @cached_property
    def markers(self) -> regex.Pattern | None:
        """What finds the final answer: the well-known markers and our own; None where all of an answer is judged."""
        if self.marker is None or MARKERS.search(self.marker):
            return self.marker and MARKERS
        return regex.compile(f"{MARKERS.pattern}|{regex.escape(self.marker)}", regex.IGNORECASE)

    @cached_property
    def _forms(self) -> tuple[str, str]:
        start = re.search(r"\{(?:title|text)\}", self.document).start()
        return self.document[:start], self.document[start:]


WORDINGS = {
    "cot": Wording(
        "Answer the question from the documents above. Think step by step, name the title of each document that you use, "
        "and end with a sentence of the form: The answer is ...",
        marker="The answer is",
    ),
    "direct": Wording("Answer the question from the documents above. Write only the answer, in a few words."),
}


DEFAULT_WORDING = "cot"


def read_wording(value: str | dict) -> Wording:
    """The wording of an argument: a name of `WORDINGS`, or a mapping of `Wording`'s keys.

    Raises:
        SolopoError: for another name, a wrong key or value, or a form without its placeholders.
    """
    if isinstance(value, str):
        if value not in WORDINGS:
            raise SolopoError(
                f"wording is '{value}': write {' or '.join(WORDINGS)}, or a mapping with an `instruction`."
            )
        return WORDINGS[value]
    refuse_unknown(Wording, value, "`wording`")
    if value.get("instruction") is None:
        raise SolopoError("`wording` has no `instruction`: add what is to be done with the documents.")
    fields = {item.name: item for item in dataclasses.fields(Wording)}
    texts = {key: checked(fields[key], text.strip() if isinstance(text, str) else text) for key, text in value.items()}
    wording = Wording(**texts)
    _check_placeholders(wording)
    return wording


def _check_placeholders(wording: Wording) -> None:
    for key, (needed, allowed) in PLACEHOLDERS.items():
        text = getattr(wording, key)
        found = set(PLACEHOLDER.findall(text))
        if lacking := needed - found:
            raise SolopoError(f"`{key}` of `wording` is {text!r}: write {{{lacking.pop()}}} where that goes.")
        if unknown := found - allowed:
            names = ", ".join(f"{{{name}}}" for name in sorted(allowed))
            raise SolopoError(f"`{key}` of `wording` has {{{min(unknown)}}}: what is filled in is {names}.")
    if "{number}" in wording.document[re.search(r"\{(?:title|text)\}", wording.document).start() :]:
        raise SolopoError(
            f"`document` of `wording` is {wording.document!r}: write {{number}} before {{title}} and {{text}}, or leave it out."
        )


def differences(one: Wording, other: Wording) -> list[str]:
    """The keys whose texts differ."""
    names = [item.name for item in dataclasses.fields(Wording)]
    return [name for name in names if getattr(one, name) != getattr(other, name)]

"""Templated answers: a worked chain that ends in the answer, and a wrong or evasive one.

They stand in for answers sampled from a model, so that training can be tried without one.
"""

import random
import re
from collections.abc import Callable
from functools import cached_property

from ..construct.arguments import BuildArguments
from ..questions.sources import SOURCES, Document, Hop, Question
from ..questions.sub_em import mentions
from ..questions.text import answer_words, has_answer, normalize
from .loop import Sample


OPENINGS = (
    "The documents lead to the answer step by step.",
    "Let me put the documents together.",
    "I go through the facts one by one.",
)
STEPS = (
    '{question} According to "{title}": {answer}.',
    '{question} The document "{title}" gives {answer}.',
    '{question} "{title}" says {answer}.',
)
EVASIONS = (
    "The documents do not say.",
    "The documents do not mention this, so the question has no answer here.",
    "I could not find this in the text.",
    "Unknown.",
)


class TemplatedSampler:
    """A right and a wrong answer for each question, written from its decomposition."""

    workers = 1

    def __init__(self, args: BuildArguments) -> None:
        self.args = args

    @cached_property
    def questions(self) -> dict[str, Question]:
        questions: dict[str, Question] = {}
        for question in SOURCES[self.args.source]().read(self.args.input):
            questions.setdefault(question.id, question)  # as synthesis does with an id seen before
        return questions

    def __call__(self, row: dict) -> list[Sample]:
        texts = right_and_wrong(self.questions[row["id"]], random.Random(f"{self.args.seed}|{row['id']}|templated"))
        return [Sample(text, finish="stop", logp=None) for text in texts]


def right_and_wrong(question: Question, rng: random.Random) -> list[str]:
    """A right answer and a wrong one; the right one alone where every wrong one would contain the right answer."""
    opening, step = rng.choice(OPENINGS), rng.choice(STEPS)
    right = _join(opening, _work(question.hops, step), _final(question.answers[0]))

    makers: list[Callable[[], list[str]]] = [
        lambda: _early_stops(question, opening, step),
        lambda: _wrong_entities(question, opening, step, rng),
        lambda: _evasions(question, opening, step, rng),
    ]
    rng.shuffle(makers)
    for make in makers:
        for wrong in make():
            if not mentions(wrong, question.answers):
                return [right, wrong]
    return [right]


def _early_stops(question: Question, opening: str, step: str) -> list[str]:
    """Takes the answer of the last hop but one for the answer."""
    done = question.hops[:-1]
    return [_join(opening, _work(done, step), _final(done[-1].answer))] if done else []


def _wrong_entities(question: Question, opening: str, step: str, rng: random.Random) -> list[str]:
    """Reads the last hop's answer out of a distractor."""
    words = answer_words(question.answers)
    known = " ".join([question.text, *(hop.answer for hop in question.hops)])
    found = []
    for document in question.distractors:
        if not has_answer(f" {normalize(document.text)} ", words):
            names = _names(document, question.answers[0])
            found += [(document, name) for name in names if name not in known and name not in document.title]
    # A name of as many words as the answer is likelier to be of its kind.
    alike = [pair for pair in found if len(pair[1].split()) == len(question.answers[0].split())] or found
    texts = []
    for document, name in rng.sample(alike, min(len(alike), 5)):
        last = Hop(question.hops[-1].question, name, document)
        texts.append(_join(opening, _work((*question.hops[:-1], last), step), _final(name)))
    return texts


def _evasions(question: Question, opening: str, step: str, rng: random.Random) -> list[str]:
    """Gives up after the hops before the last one, or at once."""
    sentences = rng.sample(EVASIONS, len(EVASIONS))
    begun = [_join(opening, _work(question.hops[:-1], step), sentence) for sentence in sentences[:1]]
    return (begun if rng.random() < 0.5 else []) + sentences


def _names(document: Document, answer: str) -> list[str]:
    """What looks like the answer in a document: numbers, or names inside sentences."""
    pattern = r"\b\d{2,4}\b" if answer[:1].isdigit() else r"(?<=[a-z,;] )[A-Z][\w'-]+(?: [A-Z][\w'-]+)*"
    return sorted(set(re.findall(pattern, document.text)))


def _work(hops: tuple[Hop, ...], step: str) -> str:
    return " ".join(
        step.format(question=hop.question, title=hop.document.title, answer=hop.answer.rstrip(".")) for hop in hops
    )


def _final(answer: str) -> str:
    return f"The answer is {answer.rstrip('.')}."


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)

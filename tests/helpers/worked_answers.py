"""A sampler without a model: a right and a wrong answer from MuSiQue's decomposition of a question."""

from solopo_llamafactory.questions.sources import MusiqueSource, Question
from solopo_llamafactory.questions.sub_em import mentions
from solopo_llamafactory.sampling.base import Sample


class WorkedAnswers:
    """Works each question out, and stops a hop early, or gives up, for the wrong answer."""

    workers = 1

    def __init__(self, path: str) -> None:
        self.questions = {question.id: question for question in MusiqueSource().read(path)}

    def __call__(self, row: dict) -> list[Sample]:
        return [Sample(text, "stop") for text in right_and_wrong(self.questions[row["id"]])]


def right_and_wrong(question: Question) -> tuple[str, str]:
    """The right answer names each hop's document; the wrong one holds no answer or alias."""
    steps = [f'{hop.question} According to "{hop.document.title}": {hop.answer.rstrip(".")}.' for hop in question.hops]
    right = " ".join([*steps, f"The answer is {question.answers[0].rstrip('.')}."])
    early = " ".join([*steps[:-1], f"The answer is {question.hops[-2].answer.rstrip('.')}."])
    return right, "I could not find this." if mentions(early, question.answers) else early

"""What `solopo build` and `solopo eval` begin with: the questions of a run and what makes contexts of them."""

import random

from .arguments import SourceArguments
from .contexts import Synthesizer
from .corpus import read_corpus
from .rendering import Renderer
from .sources import Question, read_questions


def load_questions(
    args: SourceArguments, renderer: Renderer, seed: int, verify: bool = True
) -> tuple[list[Question], Synthesizer]:
    """Return all questions in a random order, since a cut to a part must not keep the file's head alone, and their synthesizer.

    Args:
        verify: as for `Synthesizer`.

    Raises:
        SolopoError: for files that cannot be read, or without a question that can be used.
    """
    questions = read_questions(args.source, args.input)
    corpus = [] if args.corpus is None else read_corpus(args.corpus)
    allow_answer = args.allow_answer_in_distractors
    synthesizer = Synthesizer(questions, renderer, seed, corpus, verify, allow_answer, args.prompt_wording)
    order = list(questions)
    random.Random(f"{seed}|order").shuffle(order)
    return order, synthesizer

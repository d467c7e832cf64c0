"""Readers of question files and data sets: one small class a source, all giving `Question`s."""

import sys
from collections import Counter

from ...common.errors import SolopoError
from .generic import GenericSource
from .hotpotqa import HotpotqaSource
from .musique import MusiqueSource
from .questions import Document, Hop, Question
from .squad import SquadSource
from .two_hop import TwoHopSource
from .twowiki import TwoWikiSource


SOURCES = {
    source.name: source
    for source in (MusiqueSource, HotpotqaSource, TwoWikiSource, SquadSource, GenericSource, TwoHopSource)
}


# What a good part of the questions has in common -> what that is and what to give instead.
ADVICE = {
    "id seen before": "give each record an id of its own",
    "supporting paragraph missing": "in the fullwiki setting of HotpotQA the contexts are what a search has found, so give the "
    "distractor setting (hotpot_train_v1.1.json or hotpotqa/hotpot_qa:distractor)",
    "no supporting paragraph": "files for a leaderboard come without them, so give a train or dev file",
    "unanswerable": "half of musique_full is, so give musique_ans",
    "impossible": "SQuAD 2.0 has such ones beside the others, so give a file that has others, too",
    "answer not in its paragraph": "the paragraphs or the answers were changed, so give the original file",
    "no evidence": "list under `evidence` the paragraphs that hold the answer",
    "no answer": "list under `answers` what counts as right",
    "yes/no answer": "they cannot be judged by what stands in a text, so give other questions",
}
TELL_FROM = 0.2  # share of the questions


def read_questions(source: str, input: str) -> list[Question]:
    """All questions of a source's file or data set, those that cannot be used among them: their documents can.

    Raises:
        SolopoError: where there are none that can be used.
    """
    questions = list(SOURCES[source]().read(input))
    if not questions:
        raise SolopoError(f"input '{input}' holds no questions: give a file with one JSON object a line.")
    print(f"Read {len(questions)} questions from {input}.", file=sys.stderr)
    problems = Counter(question.problem for question in questions if question.problem is not None)
    told = [
        f"{count} of {len(questions)} questions cannot be used, {problem}{': ' if problem in ADVICE else ''}"
        f"{ADVICE.get(problem, '')}"
        for problem, count in problems.most_common()
        if count >= TELL_FROM * len(questions)
    ]
    if problems.total() == len(questions) or len({question.id for question in questions}) == 1 < len(questions):
        raise SolopoError(f"input '{input}' cannot be used: {'; '.join(told)}.")
    for sentence in told:
        print(f"{sentence}.", file=sys.stderr)
    return questions


__all__ = ["SOURCES", "Document", "Hop", "MusiqueSource", "Question", "read_questions"]

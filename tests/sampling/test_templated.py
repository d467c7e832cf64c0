"""Templated answers: the right one ends in the answer, the wrong one never holds it."""

import random
from dataclasses import replace

import pytest

from solopo_llamafactory.questions.sources import MusiqueSource
from solopo_llamafactory.questions.sub_em import mentions, sub_em
from solopo_llamafactory.sampling.templated import EVASIONS, right_and_wrong
from tests.helpers.questions import MUSIQUE, demo_questions, record, write_lines


def test_demo_answers():
    evasions = early_stops = 0
    questions = demo_questions()
    for question in questions:
        right, wrong = right_and_wrong(question, random.Random(question.id))
        assert right.endswith(f"The answer is {question.answers[0]}.") and sub_em(right, question.answers)
        assert all(f'"{doc.title}"' in right for doc in question.evidence) and "#" not in right
        assert not mentions(wrong, question.answers) and wrong
        evasions += wrong.endswith(EVASIONS)
        early_stops += wrong.endswith(f"The answer is {question.hops[-2].answer}.")
    wrong_entities = len(questions) - evasions - early_stops
    assert min(evasions, early_stops, wrong_entities) > 30


def test_one_example_by_hand(tmp_path):
    (question,) = MusiqueSource().read(str(write_lines(tmp_path / "in.jsonl", record())))
    right, _ = right_and_wrong(question, random.Random(0))
    assert "Dune Song: author?" in right and "Where was Ada Marl born?" in right
    wrongs = [right_and_wrong(question, random.Random(seed))[1] for seed in range(60)]
    assert any(wrong.endswith("The answer is Ada Marl.") for wrong in wrongs)  # stopped a hop early
    assert any(wrong.endswith("The answer is Orm.") for wrong in wrongs)  # another document's place


def test_an_alias_that_hides_everywhere(tmp_path):
    (question,) = MusiqueSource().read(str(write_lines(tmp_path / "in.jsonl", record(answer_aliases=["o"]))))
    for seed in range(20):  # "o" is in every other sentence
        (right,) = right_and_wrong(replace(question, answers=("Esk", "o", "n")), random.Random(seed))
        assert right.endswith("The answer is Esk.")


def test_a_full_stop_is_not_doubled(tmp_path):
    (question,) = MusiqueSource().read(str(write_lines(tmp_path / "in.jsonl", record(answer="U.S."))))
    assert right_and_wrong(question, random.Random(0))[0].endswith("The answer is U.S.")


@pytest.mark.skipif(not MUSIQUE.exists(), reason="the MuSiQue sample is not here")
def test_real_musique_answers():
    for question in MusiqueSource().read(str(MUSIQUE)):
        right, wrong = right_and_wrong(question, random.Random(1))
        assert sub_em(right, question.answers[:1])
        assert not mentions(wrong, question.answers)

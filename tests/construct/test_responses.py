"""Templated answers: the chosen one ends in the answer, the rejected one never holds it."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from solopo_llamafactory.construct.errors import Skip
from solopo_llamafactory.construct.responses import templated
from solopo_llamafactory.construct.sources import MusiqueSource
from solopo_llamafactory.construct.text import contains_substring

from .helpers import MUSIQUE, demo_questions, record, write_lines


def test_demo_answers():
    kinds: Counter[str] = Counter()
    for question in demo_questions():
        chosen, rejected, kind = templated(question, random.Random(question.id))
        kinds[kind] += 1
        assert chosen.endswith(f"The answer is {question.answers[0]}.")
        assert all(f'"{doc.title}"' in chosen for doc in question.evidence) and "#" not in chosen
        assert not contains_substring(rejected, question.answers) and rejected
    assert set(kinds) == {"early stop", "wrong entity", "evasive"} and min(kinds.values()) > 30


def test_one_example_by_hand(tmp_path):
    (question,) = MusiqueSource().read(str(write_lines(tmp_path / "in.jsonl", record())))
    chosen, _, _ = templated(question, random.Random(0))
    assert "Dune Song: author?" in chosen and "Where was Ada Marl born?" in chosen
    found = {templated(question, random.Random(seed)) for seed in range(60)}
    assert any(kind == "early stop" and text.endswith("The answer is Ada Marl.") for _, text, kind in found)
    assert any(kind == "wrong entity" and text.endswith("The answer is Orm.") for _, text, kind in found)


def test_an_alias_that_hides_everywhere(tmp_path):
    (question,) = MusiqueSource().read(str(write_lines(tmp_path / "in.jsonl", record(answer_aliases=["o"]))))
    for seed in range(20):  # "o" is in every other sentence
        with pytest.raises(Skip, match="every wrong answer"):
            templated(replace(question, answers=("Esk", "o", "n")), random.Random(seed))


def test_a_full_stop_is_not_doubled(tmp_path):
    (question,) = MusiqueSource().read(str(write_lines(tmp_path / "in.jsonl", record(answer="U.S."))))
    assert templated(question, random.Random(0))[0].endswith("The answer is U.S.")


@pytest.mark.skipif(not MUSIQUE.exists(), reason="the MuSiQue sample is not here")
def test_real_musique_answers():
    for question in MusiqueSource().read(str(MUSIQUE)):
        chosen, rejected, _ = templated(question, random.Random(1))
        assert not contains_substring(rejected, question.answers)
        assert contains_substring(chosen, question.answers[:1])

"""Made-up questions: answerable in two hops and in one way only, the same for the same file."""

import json
import random

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.questions.sources.two_hop import (
    CITIES,
    CITY_RELATIONS,
    PEOPLE,
    PERSON_RELATIONS,
    TwoHopSource,
    World,
    make_question,
)


def read(tmp_path, **values) -> list:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"questions": 20, "facts": 64, "seed": 1, **values}))
    return list(TwoHopSource().read(str(path)))


def test_the_answer_follows_from_the_evidence_and_from_nothing_else(tmp_path):
    for question in read(tmp_path):
        second, first, subject = question.text.split()
        documents = [document.text.split() for document in question.evidence + question.distractors]
        assert len(documents) == 64 and all(len(words) == 4 for words in documents)
        values = {(relation, of): value for value, relation, of, _ in documents}
        assert len(values) == 64  # a fact has one value
        middle = values[first, subject]
        assert question.answers == (values[second, middle],)
        assert [document.text for document in question.evidence] == [
            f"{middle} {first} {subject} .",
            f"{question.answers[0]} {second} {middle} .",
        ]


def test_distractors_speak_of_the_same_people(tmp_path):
    """Else the first name that recurs would be the answer's."""
    for question in read(tmp_path):
        middle = question.hops[0].answer
        assert sum(middle in document.text for document in question.distractors) >= 2


def test_the_same_file_gives_the_same_questions_and_another_seed_others(tmp_path):
    assert read(tmp_path) == read(tmp_path)
    first, other = read(tmp_path), read(tmp_path, seed="dev 0")
    assert {question.evidence for question in first}.isdisjoint(question.evidence for question in other)
    assert make_question("1-3", 64) == first[3]


def test_no_word_is_part_of_another():
    """Sub-EM looks for substrings."""
    words = [word.casefold() for word in (*PEOPLE, *CITIES)]
    assert len(set(words)) == len(words) == 480 and {len(word) for word in words} == {6}
    assert not any(word in relation for word in words for relation in (*PERSON_RELATIONS, *CITY_RELATIONS))


def test_a_world_answers_all_that_is_asked():
    for seed in range(50):
        world = World(random.Random(seed), num_facts=12, num_questions=3)
        assert len(world.facts) == 12 and len(world.asked) == 3
        for second, first, subject in world.asked:
            assert world.facts[second, world.facts[first, subject]] in CITIES


@pytest.mark.parametrize("text", ["[]", "{}", '{"questions": "many", "facts": 3, "seed": 1}', "questions: 3"])
def test_another_file_is_refused_with_an_example(tmp_path, text):
    path = tmp_path / "questions.json"
    path.write_text(text)
    with pytest.raises(SolopoError, match='is no two-hop file: write an object such as {"questions": 1000'):
        list(TwoHopSource().read(str(path)))

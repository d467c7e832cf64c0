"""Reading MuSiQue's schema: questions, reasons to leave them out, and bad lines by number."""

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.questions.sources import Document, MusiqueSource, Question
from tests.helpers.questions import MUSIQUE, demo_questions, paragraph, record, write_lines


def read(path) -> list[Question]:
    return list(MusiqueSource().read(str(path)))


def test_a_record(tmp_path):
    (question,) = read(write_lines(tmp_path / "in.jsonl", record()))
    assert question.answers == ("Esk", "Old Esk") and question.problem is None
    assert [doc.title for doc in question.evidence] == ["Dune Song", "Ada Marl"]
    assert question.distractors[1] == Document("Ivo Tarn", "Ivo Tarn was born in Orm.")
    assert [hop.question for hop in question.hops] == ["Dune Song: author?", "Where was Ada Marl born?"]
    assert question.num_hops == 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"answerable": False}, "unanswerable"),
        ({"paragraphs": [paragraph(0, "A", "B c.")]}, "no supporting paragraph"),
        ({"question_decomposition": []}, "a hop without its paragraph"),
        ({"answer": " "}, "empty answer"),
        ({"answer": "?!"}, "empty answer"),
        ({"question": " "}, "empty question"),
    ],
)
def test_unusable_records_keep_their_documents(tmp_path, changes, problem):
    (question,) = read(write_lines(tmp_path / "in.jsonl", record(**changes)))
    assert question.problem == problem
    assert len(question.evidence) + len(question.distractors) == len(record(**changes)["paragraphs"])


def test_a_hop_without_support_and_a_repeated_id(tmp_path):
    steps = [dict(step, paragraph_support_idx=None) for step in record()["question_decomposition"]]
    path = write_lines(tmp_path / "in.jsonl", record(question_decomposition=steps), record())
    questions = read(path)
    assert [question.problem for question in questions] == ["a hop without its paragraph", "id seen before"]
    assert questions[0].num_hops == 2 and not questions[0].hops


def test_texts_are_stripped_and_empty_aliases_left_out(tmp_path):
    changes = {
        "id": " a ",
        "question": " Where? \n",
        "answer": " Esk",
        "answer_aliases": [" Esk ", ".", "", "Old Esk"],
    }
    (question,) = read(write_lines(tmp_path / "in.jsonl", record(**changes)))
    assert (question.id, question.text, question.answers) == ("a", "Where?", ("Esk", "Old Esk"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"id": "x", "question": "w', "line 2 is cut off"),
        (b"{'id': 3}\n", "line 2 is not JSON"),
        (b"[1, 2]\n", "line 2 is not a JSON object"),
        (b'{"id": "\xff"}\n', "line 2 is not UTF-8"),
        (b'{"id": "x"}\n', "line 2: field 'paragraphs' is missing"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, words):
    path = write_lines(tmp_path / "in.jsonl", record())
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(SolopoError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} line 2") and words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": 5}, "field 'id' is of another kind, a MuSiQue record has a text"),
        ({"answer_aliases": [3]}, "field 'answer_aliases'"),
        ({"answerable": "yes"}, "field 'answerable' is of another kind, a MuSiQue record has true or false"),
        ({"paragraphs": ["text"]}, "field 'paragraphs' is of another kind, a MuSiQue record has a list of objects"),
        ({"paragraphs": [paragraph(True, "A", "B")]}, "line 1, paragraphs[0]: field 'idx'"),
        ({"question": "lone \ud800"}, "field 'question' is of another kind, a MuSiQue record has valid Unicode"),
        ({"answer_aliases": ["\udfff"]}, "field 'answer_aliases' is of another kind, a MuSiQue record has valid"),
    ],
)
def test_bad_fields_are_named(tmp_path, changes, words):
    with pytest.raises(SolopoError, match="line 1") as caught:
        read(write_lines(tmp_path / "in.jsonl", record(**changes)))
    assert words in str(caught.value)


def test_the_demo_corpus_is_usable():
    questions = demo_questions()
    assert {question.num_hops for question in questions} == {2, 3}
    assert not any(question.problem for question in questions)


@pytest.mark.skipif(not MUSIQUE.exists(), reason="the MuSiQue sample is not here")
def test_real_musique():
    questions = read(MUSIQUE)
    assert len(questions) == 100 and not any(question.problem for question in questions)
    assert all(len(question.evidence) == len(question.hops) == question.num_hops for question in questions)
    assert not any("#" in hop.question for question in questions for hop in question.hops)

"""Reading SQuAD's official files and the Hub's columns; real paragraphs from XQuAD."""

import json
from collections import Counter

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.questions.sources import SOURCES, Document, Question, read_questions
from tests.helpers.questions import XQUAD, write_lines
from tests.helpers.records import squad, squad_columns, squad_paragraph


DOCUMENT = Document("Dune Song", "Ada Marl wrote it in Esk, in 1901.")


def read(path) -> list[Question]:
    return list(SOURCES["squad"]().read(str(path)))


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_question_of_an_official_file(tmp_path):
    (question,) = read(write(tmp_path / "train-v1.1.json", squad()))
    assert question == Question(
        id="q1",
        text="Where was it written?",
        answers=("Esk", "in Esk"),
        evidence=(DOCUMENT,),
        distractors=(),
        num_hops=1,
    )


def test_the_columns_of_the_hub_are_the_same_question(tmp_path):
    official = read(write(tmp_path / "train-v1.1.json", squad()))
    assert read(write_lines(tmp_path / "hub.jsonl", squad_columns(), squad_columns(id="q2")))[:1] == official
    without_title = squad_columns()
    del without_title["title"]
    (question,) = read(write_lines(tmp_path / "no_title.jsonl", without_title))
    assert question.evidence == (Document("", DOCUMENT.text),)


def test_all_questions_of_all_paragraphs_are_read(tmp_path):
    second = squad_paragraph("Salt Song is by Ivo Tarn.", id="q2", answers=[{"text": "Ivo Tarn", "answer_start": 16}])
    first = squad_paragraph()
    first["qas"].append({**first["qas"][0], "id": "q3"})
    questions = read(write(tmp_path / "in.json", squad(first, second)))
    assert [(question.id, question.evidence[0].text[:4]) for question in questions] == [
        ("q1", "Ada "),
        ("q3", "Ada "),
        ("q2", "Salt"),
    ]
    assert not any(question.problem for question in questions)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"is_impossible": True, "answers": [], "plausible_answers": [{"text": "Esk", "answer_start": 21}]},
            "impossible",
        ),
        ({"is_impossible": False}, None),
        ({"answers": []}, "impossible"),
        ({"answers": [{"text": "Orm", "answer_start": 0}]}, "answer not in its paragraph"),
        (
            {"answers": [{"text": "Esk", "answer_start": 21}, {"text": "esk", "answer_start": 21}]},
            "answer not in its paragraph",
        ),
        ({"answers": [{"text": ",", "answer_start": 24}]}, "no answer"),
        ({"question": " "}, "empty question"),
    ],
)
def test_questions_that_cannot_be_used_keep_their_paragraph(tmp_path, changes, problem):
    official = write(tmp_path / "dev-v2.0.json", squad(squad_paragraph(**changes), version="v2.0"))
    (question,) = read(official)
    assert question.problem == problem and question.evidence == (DOCUMENT,)
    columns = squad_columns(**{key: value for key, value in changes.items() if key == "question"})
    if "answers" in changes:
        columns["answers"] = {key: [answer[key] for answer in changes["answers"]] for key in ("text", "answer_start")}
    (question,) = read(write_lines(tmp_path / "hub.jsonl", columns))
    assert question.problem == problem and question.evidence == (DOCUMENT,)


def test_answers_that_are_not_in_their_paragraph_are_counted_in_one_sentence(tmp_path, capsys):
    wrong = [squad_columns(id=str(i), answers={"text": ["Orm"], "answer_start": [0]}) for i in range(2)]
    right = [squad_columns(id=f"r{i}") for i in range(8)]
    assert len(read_questions("squad", str(write_lines(tmp_path / "some.jsonl", *wrong, *right)))) == 10
    sentence = (
        "2 of 10 questions cannot be used, answer not in its paragraph: the paragraphs or the answers were changed, so give "
        "the original file."
    )
    assert capsys.readouterr().err.splitlines()[1:] == [sentence]
    path = write_lines(tmp_path / "all.jsonl", *wrong)
    with pytest.raises(SolopoError) as caught:
        read_questions("squad", str(path))
    assert str(caught.value) == f"input '{path}' cannot be used: {sentence.replace('2 of 10', '2 of 2')}"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"id": "q"}, "line 1: field 'context' is missing, a SQuAD record has a text there"),
        (squad_columns(answers="Esk"), "line 1: field 'answers' is of another kind, a SQuAD record has a list there"),
        (squad_columns(answers={"text": "Esk"}), "line 1, answers: field 'text' is of another kind"),
        ({"title": "A", "paragraphs": [{"qas": []}]}, "line 1, paragraphs[0]: field 'context' is missing"),
        ({"title": "A", "paragraphs": ["text"]}, "line 1: field 'paragraphs' is of another kind"),
        (
            {"title": "A", "paragraphs": [squad_paragraph(answers=["Esk"])]},
            "paragraphs[0], qas[0]: field 'answers' is of",
        ),
    ],
)
def test_a_record_of_another_schema_is_refused_by_its_place(tmp_path, record, words):
    with pytest.raises(SolopoError) as caught:
        read(write_lines(tmp_path / "in.jsonl", record, record))
    assert words in str(caught.value)


@pytest.mark.skipif(not XQUAD.exists(), reason="the XQuAD sample is not here")
def test_real_questions():
    questions = read_questions("squad", str(XQUAD))
    assert len(questions) == 1040 and len({question.evidence for question in questions}) == 210
    assert Counter(question.problem for question in questions) == {None: 1040}
    assert questions[0].evidence[0].title == "Super Bowl 50" and questions[0].answers == ("308",)

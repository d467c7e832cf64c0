"""Reading one's own questions, and further documents."""

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.questions.corpus import read_corpus
from solopo_llamafactory.questions.sources import SOURCES, Document, Question
from tests.helpers.questions import write_lines


def generic(**changes) -> dict:
    return {
        "id": 7,
        "question": " Where was Ada Marl born? ",
        "answers": ["Esk", " Esk ", "Old Esk"],
        "evidence": [{"title": "Ada Marl ", "text": " Ada Marl was born in Esk."}, {"text": "Esk is a town."}],
        **changes,
    }


def read(path) -> list[Question]:
    return list(SOURCES["generic"]().read(str(path)))


def test_a_record_without_title_and_distractors(tmp_path):
    (question,) = read(write_lines(tmp_path / "in.jsonl", generic()))
    assert question == Question(
        id="7",
        text="Where was Ada Marl born?",
        answers=("Esk", "Old Esk"),
        evidence=(Document("Ada Marl", "Ada Marl was born in Esk."), Document("", "Esk is a town.")),
        distractors=(),
        num_hops=2,
    )


def test_distractors_and_a_text_as_id(tmp_path):
    others = [{"title": "Orm", "text": "A town."}, {"title": None, "text": "Esk is a town."}]
    (question,) = read(write_lines(tmp_path / "in.jsonl", generic(id="q", distractors=others)))
    assert question.id == "q" and question.distractors == (Document("Orm", "A town."),)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"evidence": []}, "no evidence"),
        ({"evidence": None}, "no evidence"),
        ({"evidence": [{"title": "A", "text": None}, {"title": "C", "text": " "}]}, "no evidence"),
        ({"answers": []}, "no answer"),
        ({"answers": [" ", "?"]}, "no answer"),
        ({"answers": ["Yes"]}, "yes/no answer"),
        ({"answers": ["none", "no"]}, "yes/no answer"),
        ({"question": ""}, "empty question"),
    ],
)
def test_unusable_records_are_no_errors(tmp_path, changes, problem):
    (question,) = read(write_lines(tmp_path / "in.jsonl", generic(**changes)))
    assert question.problem == problem and question.num_hops >= 1


@pytest.mark.parametrize("text", ["", " \n", None])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_empty_paragraph_is_left_out_and_the_others_are_used(tmp_path, text, place):
    evidence = generic()["evidence"]
    evidence.insert(place, {"title": "Empty", "text": text})
    record = generic(evidence=evidence, distractors=[{"title": "Empty", "text": text}])
    assert read(write_lines(tmp_path / "in.jsonl", record)) == read(write_lines(tmp_path / "b.jsonl", generic()))
    corpus = write_lines(tmp_path / "corpus.jsonl", {"title": "Empty", "text": text}, {"text": "A hill."})
    assert read_corpus(str(corpus)) == [Document("", "A hill.")]


def test_missing_evidence_and_a_repeated_id(tmp_path):
    record = generic()
    del record["evidence"]
    questions = read(write_lines(tmp_path / "in.jsonl", record, generic(id="7")))
    assert [question.problem for question in questions] == ["no evidence", "id seen before"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": 1.5}, "line 1: field 'id' is of another kind, a generic record has a text or a number there"),
        ({"id": True}, "line 1: field 'id' is of another kind, a generic record has a text or a number there"),
        ({"answers": "Esk"}, "line 1: field 'answers' is of another kind, a generic record has a list there"),
        ({"answers": [1]}, "line 1: field 'answers' is of another kind, a generic record has a list of texts there"),
        (
            {"evidence": ["text"]},
            "line 1: field 'evidence' is of another kind, a generic record has a list of objects",
        ),
        ({"evidence": [{"title": "A"}]}, "line 1, evidence[0]: field 'text' is missing, a generic record has a text"),
        ({"distractors": [{"text": "B", "title": 1}]}, "line 1, distractors[0]: field 'title' is of another kind"),
    ],
)
def test_bad_fields_are_named(tmp_path, changes, words):
    with pytest.raises(SolopoError) as caught:
        read(write_lines(tmp_path / "in.jsonl", generic(**changes)))
    assert words in str(caught.value)


def test_a_corpus_of_further_documents(tmp_path):
    path = write_lines(tmp_path / "corpus.jsonl", {"title": "Orm", "text": " A town.\n"}, {"text": "A hill."})
    assert read_corpus(str(path)) == [Document("Orm", "A town."), Document("", "A hill.")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no documents"),
        ('{"title": "A"}\n', "line 1: field 'text' is missing, a corpus record has a text there"),
        ('{"text": "A"}\n{"text": "\\ud800"}\n', "line 2: field 'text' is of another kind, a corpus record has valid"),
        ('{"text": "A"}\n{"te', "line 2 is cut off"),
    ],
)
def test_a_bad_corpus_is_refused(tmp_path, content, words):
    path = tmp_path / "corpus.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SolopoError) as caught:
        read_corpus(str(path))
    assert words in str(caught.value) and str(path) in str(caught.value)

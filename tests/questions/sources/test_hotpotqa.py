"""Reading HotpotQA's and 2WikiMultihopQA's schemas, in the official files' shape and in the Hub's."""

import json

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.questions.sources import SOURCES, Document, Question
from tests.helpers.questions import record as musique
from tests.helpers.questions import write_lines
from tests.helpers.records import hotpot, on_the_hub, twowiki


RECORDS = {"hotpotqa": hotpot, "2wikimultihopqa": twowiki}


def read(path, source: str = "hotpotqa") -> list[Question]:
    return list(SOURCES[source]().read(str(path)))


def test_hotpotqa(tmp_path):
    (question,) = read(write_lines(tmp_path / "in.jsonl", hotpot()))
    assert question == Question(
        id="5a7a0693",
        text="Where was the author of Dune Song born?",
        answers=("Esk",),
        # In the order in which the supporting facts name them; sentences joined as they are.
        evidence=(
            Document("Dune Song", "Dune Song is a novel. It is by Ada Marl."),
            Document("Ada Marl", "Ada Marl wrote novels in the U.S.-style. She was born in Esk."),
        ),
        distractors=(Document("Salt Song", "Salt Song is a novel. It is by Ivo Tarn."),),
        num_hops=2,
    )


def test_2wikimultihopqa(tmp_path):
    (question,) = read(write_lines(tmp_path / "in.jsonl", twowiki()), "2wikimultihopqa")
    assert [document.title for document in question.evidence] == ["Dune Song", "Salt Song", "Ada Marl", "Ivo Tarn"]
    assert question.evidence[0].text == "Dune Song is a novel. It is by Ada Marl."
    assert question.distractors == (Document("Orm", "Orm is a town."),)
    assert question.num_hops == 4 and question.hops == () and question.problem is None


@pytest.mark.parametrize("source", RECORDS)
def test_official_array_and_hub_shape_are_the_same_question(tmp_path, source):
    record = RECORDS[source]()
    array = tmp_path / "train.json"
    array.write_text(json.dumps([record], indent=1), encoding="utf-8")
    (question,) = read(array, source)
    assert read(write_lines(tmp_path / "hub.jsonl", on_the_hub(record)), source) == [question]


@pytest.mark.parametrize("source", RECORDS)
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"answer": "yes"}, "yes/no answer"),
        ({"answer": " No. "}, "yes/no answer"),
        ({"answer": ""}, "empty answer"),
        ({"answer": "?"}, "empty answer"),
        ({"supporting_facts": []}, "no supporting paragraph"),
        ({"supporting_facts": [["Dune Song", 0], ["Nowhere", 0]]}, "supporting paragraph missing"),
        ({"context": [["Dune Song", []], ["Ada Marl", ["Text."]]]}, "supporting paragraph missing"),
        ({"question": ""}, "empty question"),
        ({"answer": "Norway"}, None),
    ],
)
def test_unusable_records_keep_their_documents(tmp_path, source, changes, problem):
    record = RECORDS[source](**changes)
    (question,) = read(write_lines(tmp_path / "in.jsonl", record), source)
    assert question.problem == problem
    assert len(question.evidence) + len(question.distractors) == len(record["context"])


def test_a_sentence_number_that_leads_nowhere_and_a_repeated_id(tmp_path):
    facts = [["Dune Song", 99], [" Ada Marl ", 0]]
    questions = read(write_lines(tmp_path / "in.jsonl", hotpot(supporting_facts=facts), hotpot()))
    assert [question.problem for question in questions] == [None, "id seen before"]


def test_two_paragraphs_of_one_title_are_both_evidence(tmp_path):
    context = [*hotpot()["context"], ["Ada Marl", ["Ada Marl is a ship."]]]
    (question,) = read(write_lines(tmp_path / "in.jsonl", hotpot(context=context)))
    assert [document.title for document in question.evidence] == ["Dune Song", "Ada Marl", "Ada Marl"]
    assert question.num_hops == 2


@pytest.mark.parametrize(
    ("source", "record", "words"),
    [
        ("hotpotqa", musique(), "field 'context' is missing, a HotpotQA record has a list there"),
        ("2wikimultihopqa", hotpot(), "field 'evidences' is missing, a 2WikiMultihopQA record has a list there"),
        ("hotpotqa", twowiki(), "field 'evidences' is there, a HotpotQA record has none"),
        ("musique", hotpot(), "field 'paragraphs' is missing, a MuSiQue record has a list there"),
        ("generic", musique(), "field 'answers' is missing, a generic record has a list there"),
    ],
)
def test_a_record_of_another_source_is_refused_with_the_schema_named(tmp_path, source, record, words):
    path = write_lines(tmp_path / "in.jsonl", record)
    with pytest.raises(SolopoError) as caught:
        read(path, source)
    assert str(caught.value).startswith(f"{path} line 1: {words}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_id": 7}, "field '_id' is of another kind, a HotpotQA record has a text there"),
        ({"context": "text"}, "field 'context' is of another kind, a HotpotQA record has a list there"),
        ({"context": [["A"]]}, "field 'context' is of another kind, a HotpotQA record has a list of [title, sent"),
        ({"context": [["A", "text"]]}, "a list of [title, sentences]"),
        ({"context": [["A", [1]]]}, "a list of [title, sentences]"),
        ({"context": [[3, ["text"]]]}, "a list of [title, sentences]"),
        ({"context": [["A", ["\ud800"]]]}, "field 'context' is of another kind, a HotpotQA record has valid Unicode"),
        ({"context": {"title": ["A", "B"], "sentences": [["text"]]}}, "a list of [title, sentences]"),
        ({"context": {"title": ["A"]}}, "a list of [title, sentences]"),
        ({"supporting_facts": [None]}, "a list of [title, sent_id]"),
        ({"answer": None}, "field 'answer' is of another kind, a HotpotQA record has a text there"),
    ],
)
def test_bad_fields_are_named(tmp_path, changes, words):
    with pytest.raises(SolopoError, match="line 1") as caught:
        read(write_lines(tmp_path / "in.jsonl", hotpot(**changes)))
    assert words in str(caught.value)


@pytest.mark.parametrize("source", RECORDS)
def test_lists_as_json_text_are_the_same_question(tmp_path, source):
    """Copies of 2WikiMultihopQA on the Hub hold them so."""
    record = RECORDS[source]()
    as_text = {key: json.dumps(value) if isinstance(value, list) else value for key, value in record.items()}
    assert read(write_lines(tmp_path / "a.jsonl", as_text), source) == read(
        write_lines(tmp_path / "b.jsonl", record), source
    )


def test_licences_are_those_of_the_data():
    licences = {name: source.licence for name, source in SOURCES.items()}
    assert licences == {
        "musique": "CC BY 4.0",
        "hotpotqa": "CC BY-SA 4.0",
        "2wikimultihopqa": "Apache-2.0",
        "squad": "CC BY-SA 4.0",
        "generic": "your own",
        "two_hop": "Apache-2.0",
    }

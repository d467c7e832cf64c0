"""What `input` may be: a JSONL file, a JSON array, a folder or id of a Hugging Face data set."""

import gzip
import json

import pandas as pd
import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.questions.sources import SOURCES, read_questions
from solopo_llamafactory.questions.sources.records import read_records
from tests.helpers.questions import record as musique
from tests.helpers.questions import write_lines
from tests.helpers.records import hotpot, on_the_hub, twowiki


GENERIC = {"id": 1, "question": "Where?", "answers": ["Esk"], "evidence": [{"title": "A", "text": "In Esk."}]}


def refusal(path) -> str:
    with pytest.raises(SolopoError) as caught:
        list(read_records(str(path)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_whatever_the_file_is_called(tmp_path, indent):
    for name in ("in.json", "in.jsonl"):
        path = tmp_path / name
        path.write_text(
            "\n " + json.dumps([{"a": "é"}, {"a": [1]}], indent=indent, ensure_ascii=False) + "\n", "utf-8"
        )
        assert list(read_records(str(path))) == [(f"{path} record 1", {"a": "é"}), (f"{path} record 2", {"a": [1]})]
    path.write_text("[]")
    assert list(read_records(str(path))) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"a": 1}, {"a": "te', "record 2 is cut off"),
        (b'[{"a": 1}, ', "record 2 is cut off"),
        (b'[{"a": 1}', "record 1 is followed by neither a comma nor ']'"),
        (b'[{"a": 1}, {"a": x}]', "record 2 is not JSON"),
        (b'[{"a": 1}, "text"]', "record 2 is not a JSON object"),
        (b'[{"a": "\xff"}]', "line 1 is not UTF-8"),
        (b'[{"a": 1}]\n[{"a": 2}]', "goes on after its array"),
        (b'{"a": 1}\n{"a"', "line 2 is cut off"),
    ],
)
def test_broken_files_are_refused_by_name_and_number(tmp_path, content, words):
    path = tmp_path / "in.json"
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path} {words}")


def test_a_misspelt_file_name_is_not_looked_for_on_the_hub(tmp_path):
    path = tmp_path / "no.jsonl"
    assert refusal(path) == f"input '{path}' is not a file: give its path."


@pytest.mark.parametrize(
    ("source", "record"),
    [
        ("musique", musique()),
        ("hotpotqa", on_the_hub(hotpot())),
        ("2wikimultihopqa", on_the_hub(twowiki())),
        ("generic", GENERIC),
    ],
)
def test_a_data_set_gives_the_same_questions_as_its_file(tmp_path, source, record):
    second = {**record, "id": 2 if source == "generic" else "2"}
    if source == "generic":
        # Left out of the first record: the table has null there.
        second["distractors"] = [{"title": "B", "text": "C."}]
    path = write_lines(tmp_path / "train.jsonl", record, second)
    read = SOURCES[source]().read
    questions = list(read(str(tmp_path)))
    assert questions == list(read(str(path))) and len(questions) == 2
    assert not any(question.problem for question in questions)


def test_a_record_of_a_data_set_is_refused_by_number(tmp_path):
    write_lines(tmp_path / "train.jsonl", musique(), musique(answer=None))
    with pytest.raises(SolopoError) as caught:
        list(SOURCES["musique"]().read(str(tmp_path)))
    assert str(caught.value).startswith(f"{tmp_path} record 2: field 'answer' is of another kind")


def test_a_configuration_is_named_after_a_colon(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files: one.jsonl\n- config_name: two\n  data_files: two.jsonl\n---\n"
    )
    write_lines(tmp_path / "one.jsonl", {"a": 1})
    write_lines(tmp_path / "two.jsonl", {"a": 2})
    assert list(read_records(f"{tmp_path}:two")) == [(f"{tmp_path}:two record 1", {"a": 2})]
    assert "['one', 'two']" in refusal(tmp_path) and "NAME:CONFIG" in refusal(tmp_path)
    assert "'three' not found" in refusal(f"{tmp_path}:three")


def test_what_cannot_be_loaded_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    words = "is neither a file nor a data set that this machine can load ("
    assert refusal("nobody/nothing").startswith(f"input 'nobody/nothing' {words}Couldn't reach")
    assert refusal(tmp_path).startswith(f"input '{tmp_path}' {words}")
    write_lines(tmp_path / "dev.jsonl", {"a": 1})
    assert 'Unknown split "train"' in refusal(tmp_path)
    # The official files' pairs of a title and a list fit in no table: such a file is given by its own path.
    write_lines(tmp_path / "train.jsonl", hotpot())
    assert "give a JSON or JSONL file" in refusal(tmp_path) and "An error occurred" not in refusal(tmp_path)


def save(folder, *records: dict):
    folder.mkdir(parents=True)
    pd.DataFrame(records).to_parquet(folder / "train-00000-of-00001.parquet")


def test_configurations_in_folders_are_named(tmp_path):
    for number, name in enumerate(("distractor", "fullwiki")):
        save(tmp_path / name, {"a": number})
    words = "holds several data sets, in the folders distractor, fullwiki: name one of them, such as"
    assert refusal(tmp_path) == f"input '{tmp_path}' {words} '{tmp_path}/distractor'."
    for path in (f"{tmp_path}/fullwiki", f"{tmp_path}:fullwiki"):
        assert [record for _, record in read_records(path)] == [{"a": 1}]


@pytest.mark.parametrize(
    "inside, readme", [("data", None), (".", "---\nlicense: mit\n---\n# Leases\n"), ("data", "# Leases")]
)
def test_configurations_in_folders_are_named_wherever_they_are(tmp_path, inside, readme):
    """A README that lists no configurations changes nothing."""
    for number, name in enumerate(("distractor", "fullwiki")):
        save(tmp_path / inside / name, {"a": number})
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    assert "holds several data sets, in the folders distractor, fullwiki" in refusal(tmp_path)


def test_folders_of_the_parts_of_one_data_set_are_read(tmp_path):
    save(tmp_path / "train", {"a": 0})
    save(tmp_path / "validation", {"a": 1})
    assert [record for _, record in read_records(str(tmp_path))] == [{"a": 0}]


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.parquet", "in.json"])
def test_files_of_any_kind_give_the_same_questions(tmp_path, name):
    records = [GENERIC, {**GENERIC, "id": 2}]
    path = tmp_path / name
    if name.endswith("gz"):
        path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))
    elif name.endswith("parquet"):
        pd.DataFrame(records).to_parquet(path)
    else:
        path.write_text(json.dumps({"version": "1", "data": records}))
    assert read_questions("generic", str(path)) == read_questions(
        "generic", str(write_lines(tmp_path / "plain.jsonl", *records))
    )


FAR = {"context": [["Elsewhere", ["Text."]]]}


@pytest.mark.parametrize(
    ("source", "records", "words"),
    [
        (
            "hotpotqa",
            [hotpot(_id=str(i), **FAR) for i in range(3)],
            "3 of 3 questions cannot be used, supporting paragraph",
        ),
        (
            "generic",
            [GENERIC] * 4,
            "3 of 4 questions cannot be used, id seen before: give each record an id of its own",
        ),
        ("generic", [{**GENERIC, "id": i, "evidence": []} for i in range(2)], "no evidence: list under `evidence`"),
        (
            "generic",
            [{**GENERIC, "id": i, "answers": answers} for i, answers in enumerate([[], ["yes"]])],
            "1 of 2 questions cannot be used, no answer: list under `answers` what counts as right; 1 of 2 questions",
        ),
    ],
)
def test_an_input_that_cannot_be_used_says_what_it_is(tmp_path, source, records, words):
    path = write_lines(tmp_path / "in.jsonl", *records)
    with pytest.raises(SolopoError) as caught:
        read_questions(source, str(path))
    assert str(caught.value).startswith(f"input '{path}' cannot be used: ") and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_good_part_that_cannot_be_used_is_told(tmp_path, capsys):
    records = [hotpot(_id=str(i), **(FAR if i < 2 else {})) for i in range(10)]
    assert len(read_questions("hotpotqa", str(write_lines(tmp_path / "in.jsonl", *records)))) == 10
    assert "2 of 10 questions cannot be used, supporting paragraph missing: in the fullwiki" in capsys.readouterr().err
    read_questions("hotpotqa", str(write_lines(tmp_path / "b.jsonl", *records[1:])))
    assert "cannot be used" not in capsys.readouterr().err

"""Every kind of JSON file is read, and whatever else is named for what it is, by file and place."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solopo_llamafactory.common.json_records import half_character_field, read_json_records


ROWS = [
    {"id": "0", "question": "Wer wäre \u2028 hier?", "answers": ["Ada"]},
    {"id": "1", "question": "谁签署了租约？", "answers": None},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
PLACES = ["record 1", "record 2"]


def read(path, content: bytes) -> list:
    path = path / "in.txt"  # the content tells, not the ending
    path.write_bytes(content)
    return list(read_json_records(path))


def refusal(path, content: bytes) -> str:
    with pytest.raises(ValueError) as error:
        read(path, content)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{path / 'in.txt'} ")
    return str(error.value).removeprefix(f"{path / 'in.txt'} ")


FORMS = {
    "lines": (LINES, ["line 1", "line 2"]),
    "lines without a last break": (LINES[:-1], ["line 1", "line 2"]),
    "lines of Windows with blank ones": ("\r\n" + LINES.replace("\n", "\r\n\r\n"), ["line 2", "line 4"]),
    "an array": (json.dumps(ROWS), PLACES),
    "an array over lines": (" \n" + json.dumps(ROWS, indent=1, ensure_ascii=False), PLACES),
    "lines with a mark at the start of each": (LINES.replace("\n{", "\n\ufeff{"), ["line 1", "line 2"]),
    "an array alone under any name": (json.dumps({"leases": ROWS}), PLACES),
    "an array of a split": (json.dumps({"licence": "MIT", "dev": ROWS}), PLACES),
    "objects over lines": ("\n".join(json.dumps(row, indent=2) for row in ROWS), ["line 1", "line 8"]),
    "an array under a name": (json.dumps({"version": "1", "data": ROWS}), PLACES),
    "an array under a name, over lines": (json.dumps({"examples": ROWS}, indent=1), PLACES),
}
WRAPPINGS = {
    "plain": lambda content: content,
    "BOM": lambda content: b"\xef\xbb\xbf" + content,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "BOM in gzip": lambda content: gzip.compress(b"\xef\xbb\xbf" + content),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_forms_of_json(tmp_path, form, wrapping):
    text, places = FORMS[form]
    assert read(tmp_path, WRAPPINGS[wrapping](text.encode())) == list(zip(places, ROWS))


def test_one_object_is_a_record_however_it_is_written(tmp_path):
    for row in ROWS:
        for indent in (None, 1):
            assert read(tmp_path, json.dumps(row, indent=indent).encode()) == [("line 1", row)]
    evidence = {"id": "0", "evidence": [{"text": "a"}], "paragraphs": [{"text": "b"}]}
    assert read(tmp_path, json.dumps(evidence).encode()) == [("line 1", evidence)]


def test_parquet(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    assert read(tmp_path, content) == [("row 1", ROWS[0]), ("row 2", ROWS[1])]
    assert "parquet file that cannot be read" in refusal(tmp_path, content[:-20])


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text() | st.integers() | st.none(), min_size=1), min_size=2))
def test_whatever_records_hold(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("records")
    for content in (
        "\n".join(map(json.dumps, rows)),
        json.dumps(rows, ensure_ascii=False),
        json.dumps(rows, indent=1),
    ):
        assert [record for _, record in read(path, content.encode("utf-8", "replace"))] == rows


def test_nothing_is_in_an_empty_file(tmp_path):
    for content in (b"", b"\n \n", b"\xef\xbb\xbf", gzip.compress(b""), b"[]"):
        assert read(tmp_path, content) == []


@pytest.mark.parametrize(
    "content, words",
    [
        ('{"a": 1}\n{"a": \n{"a": 2}\n', "line 2 is not JSON (Expecting value"),
        ('{"a": 1\n{"a": 2}\n', "line 1 is not JSON"),
        ('\n\n{"a": 1}\n\n{"a": x}\n', "line 5 is not JSON (Expecting value at column 7): repair it."),
        ('{"a": 1}\n{"a": "hal', "line 2 is cut off"),
        ('{"a": 1}\n[1]\n', "line 2 is not a JSON object"),
        (
            '{"a": 1},\n{"a": 2},\n',
            "line 1 has a comma after an object: write one object a line without commas.",
        ),
        (
            '{"a": 1},\n{"a": 2}\n',
            "line 1 is an object with a comma after it: write one object a line without commas.",
        ),
        ("{'a': None}\n{'a': True}\n", "line 1 is not JSON but Python's notation: write it by json.dumps."),
        ("{'a': None}", "line 1 begins an object that is not JSON but Python's notation"),
        ('{\n "a": 1,\n "b": \n}', "line 1 begins an object that is not JSON"),
        ('{\n "a": 1,\n "b": ', "line 1 begins an object that is cut off"),
        ("id,question\n0,Who\n", "line 1 begins with 'id,question"),
        ("null", "line 1 begins with 'null'"),
        ('[{"a": 1}, {"a": "te', "record 2 is cut off"),
        ("[[1]]", "record 1 is not a JSON object"),
        (json.dumps({"train": ROWS, "data": ROWS}), "holds several lists, data and train"),
        (json.dumps({"train": ROWS, "test": ROWS}), "holds several lists, train and test"),
        (pd.DataFrame(ROWS).to_json(), "is one object of 3 objects or lists, by columns or by ids"),
        (json.dumps(pd.DataFrame(ROWS).to_dict(orient="list")), "is one object of 3 objects or lists"),
        (json.dumps({row["id"]: row for row in ROWS}), "is one object of 2 objects or lists"),
        ("<!DOCTYPE html>\n<html>", "is an HTML or XML page: download the data themselves."),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d", "is a pointer of Git LFS"),
    ],
)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_what_cannot_be_read_is_named(tmp_path, content, words, bom):
    """The same place with a byte order mark, whose own line is in order."""
    assert refusal(tmp_path, bom + content.encode()).startswith(words)


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        zipfile.ZipFile(file, "w").writestr("a.json", "{}")
    else:
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("a.json"))
    return file.getvalue()


@pytest.mark.parametrize(
    "content, words",
    [
        (archive("zip"), "is a zip archive"),
        (archive("tar"), "is a tar archive"),
        (gzip.compress(archive("tar")), "is a tar archive"),
        (b"(\xb5/\xfd\x04\x00", "is compressed by zstd"),
        (b"ARROW1\0\0", "is an Arrow file"),
        (b"\x80\x04\x95\0\0\0", "is a binary file of a kind that is not read"),
        (gzip.compress(LINES.encode() * 99)[:100], "is compressed, and its end is missing or damaged"),
        (gzip.compress(LINES.encode())[:-6] + b"\0\0\0\0\0\0", "is compressed, and its end is missing or damaged"),
    ],
    ids=["zip", "tar", "tar.gz", "zstd", "arrow", "pickle", "cut gzip", "damaged gzip"],  # the bytes hold the time
)
def test_other_kinds_of_files_are_named(tmp_path, content, words):
    assert refusal(tmp_path, content).startswith(words)


TEXTS = {
    "CP1252": "Wer hat den Pachtvertrag für das große Gebäude unterschrieben? Ada Märl, in „Größe“.",
    "CP1251": "Кто подписал договор аренды? Это длинное предложение.",
    "GB18030": "谁签署了租约？这是一个很长的句子，用来测试编码。",
    "BIG5": "誰簽署了租約？這是一個很長的句子，用來測試編碼。",
    "CP932": "誰が契約に署名しましたか？これはテストです。",
    "CP949": "누가 계약에 서명했습니까? 이것은 테스트입니다.",
    "UTF-16": "Wer? 谁签署了租约？",
    "UTF-16LE": "Wer? 谁签署了租约？",
    "UTF-32": "Wer? 谁签署了租约？",
}


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("form", ["lines", "array"])
def test_the_encoding_is_told_with_the_command_that_converts_it(tmp_path, encoding, form):
    rows = [{"id": str(number), "question": TEXTS[encoding]} for number in range(3)]
    rows.insert(0, {"id": "a", "question": "plain"})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(lines) + "\n" if form == "lines" else "[\n" + ",\n".join(lines) + "\n]"
    sentence = refusal(tmp_path, text.encode(encoding))
    assert (
        f"is not UTF-8: save the file as UTF-8 (it is probably {encoding}: `iconv -f {encoding} -t UTF-8" in sentence
    )
    if not encoding.startswith("UTF"):
        assert sentence.startswith("line 2 " if form == "lines" else "line 3 ")


@pytest.mark.parametrize("line", [1, 2, 5])
def test_damage_in_a_file_of_utf_8_is_no_other_encoding(tmp_path, line):
    """Nobody is told to convert what is in order."""
    lines = (LINES * 3).encode().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b'{"id"', b'{"\xe8id"')
    sentence = refusal(tmp_path, b"".join(lines))
    assert (
        sentence == f"line {line} is not UTF-8, as the rest of the file is: write the damaged characters there anew."
    )


@pytest.mark.parametrize(
    "record, field",
    [
        ({"a": "\ud800"}, "a"),
        ({"a": "x", "b": {"c": ["\udfff"]}}, "b.c[]"),
        ({"p": [{"content": "a\ud83d"}]}, "p[].content"),
        ({"a": "\U0001f468", "b": 1}, None),
    ],
)
def test_half_of_a_character(record, field):
    assert half_character_field(record) == field


@pytest.mark.parametrize("name", ["samples", "data", "questions", "evidence"])
def test_the_only_record_of_a_file_is_not_taken_apart(tmp_path, name):
    """Our own files of samples and answers begin with one line."""
    record = {"id": "q0", name: [{"text": "Paris", "finish": "stop"}]}
    assert read(tmp_path, json.dumps(record).encode() + b"\n") == [("line 1", record)]

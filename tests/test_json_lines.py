"""Errors in data files name the file, the line and the field."""

import json

import pytest

from solopo_llamafactory.json_lines import find_broken_line, read_json_lines


def test_blank_lines_are_skipped(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert list(read_json_lines(path)) == [("line 1", {"a": 1}), ("line 3", {"a": 2})]


@pytest.mark.parametrize(
    "content, words",
    [
        (b'{"a": 1}\n{"a": \n{"a": 2}\n', "line 2 is not JSON"),
        (b'{"a": 1}\n{"a": "hal', "line 2 is cut off"),
        (b'{"a": 1}\n[1]\n', "line 2 is not a JSON object"),
        (b'{"a": "\xff"}\n', "line 1 is not UTF-8"),
    ],
)
def test_a_bad_line_is_named(content, words, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        list(read_json_lines(path))
    assert words in find_broken_line([path])
    assert "a.jsonl" in find_broken_line([path])


@pytest.mark.parametrize(
    "first, second, field",
    [
        ({"long_prompt": "text"}, {"long_prompt": [{"role": "user", "content": "x"}]}, "`long_prompt` is a list"),
        ({"meta": {"hops": 2}}, {"meta": {"hops": "two"}}, "`meta.hops` is text"),
        ({"p": [{"content": "x"}]}, {"p": [{"content": ["x"]}]}, "`p[].content` is a list"),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_a_field_with_two_types_is_named(first, second, field, suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    rows = [first, {**first, "other": None}, second]
    path.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    sentence = find_broken_line([path])
    assert field in sentence and ("record 3" if suffix == "json" else "line 3") in sentence


def test_nothing_is_found_in_a_good_file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "b": null}\n{"a": 2.5, "b": "x"}\n')
    assert find_broken_line([path]) is None

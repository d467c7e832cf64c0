"""Entries of dataset_info.json: every key is used as the host uses it, or refused by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llamafactory.data.parser import DatasetAttr

from solopo_llamafactory.data.entries import COLUMNS as KNOWN_COLUMNS
from solopo_llamafactory.data.entries import ENTRY_KEYS, TAGS, UNUSED_COLUMNS, check_entry
from tests.helpers.runs import COLUMNS, make_rows, write_dataset


ENTRY = {"file_name": "pairs.jsonl", "formatting": "solopo", "ranking": True, "columns": COLUMNS}


def check(**change) -> None:
    attr = DatasetAttr("file", dataset_name="pairs.jsonl")
    attr.entry = {key: value for key, value in {**ENTRY, **change}.items() if value is not None}
    attr.join(attr.entry)
    check_entry("pairs", attr)


def write_entry(folder, rows: list[dict], **change) -> dict:
    """Write rows with an entry, and return the arguments that name them."""
    write_dataset(folder, rows)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["pairs"] = {key: value for key, value in {**info["pairs"], **change}.items() if value is not None}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return {"dataset_dir": str(folder)}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"columns": {key: value for key, value in COLUMNS.items() if key != "long_prompt"}}, "`long_prompt`"),
        ({"columns": None}, 'names no column for `prompt`: write "columns"'),
        ({"columns": {**COLUMNS, "chosen": None}}, "names no column for `chosen`"),
        ({"formatting": "alpaca"}, 'needs "formatting": "solopo"'),
        ({"ranking": False}, '"ranking": true'),
        ({"columns": {**COLUMNS, "longprompt": "x"}}, 'unknown key `longprompt` in "columns": write `long_prompt`'),
        ({"columns": {**COLUMNS, "systm": "x"}}, "write `system`"),
        (
            {"columns": {"short_prompt" if key == "prompt" else key: value for key, value in COLUMNS.items()}},
            'unknown key `short_prompt` in "columns": write `prompt`',
        ),
        ({"columns": {**COLUMNS, "question": "x"}}, "remove it, or write one of prompt, long_prompt, query"),
        ({"columns": {**COLUMNS, "role_tag": "x"}}, "unknown key `role_tag`"),
        ({"tags": {"user": "Kunde"}}, 'unknown key `user` in "tags": write `user_tag`'),
        ({"tags": {"rolle": "Kunde"}}, 'unknown key `rolle` in "tags": write `role_tag`'),
        ({"num_sample": 5}, "unknown key `num_sample` in the entry: write `num_samples`"),
        ({"colums": {}}, "unknown key `colums` in the entry: write `columns`"),
        ({"system": "system"}, 'has `system` beside "columns": move it into "columns"'),
        ({"user_tag": "Kunde"}, 'move it into "tags"'),
        *(({"columns": {**COLUMNS, key: "x"}}, f"names a column for `{key}`") for key in UNUSED_COLUMNS),
    ],
)
def test_a_wrong_entry_is_refused(change, words):
    with pytest.raises(ValueError) as error:
        check(**change)
    assert words in str(error.value)
    assert str(error.value).startswith("Dataset `pairs` in dataset_info.json ")


def test_a_right_entry_is_taken():
    check(columns={**COLUMNS, "query": "question", "history": None, "response": None}, tags={"user_tag": "Kunde"})
    check(comment="from the archive", licence="ours", num_samples=3)


@given(st.text(min_size=1).filter(lambda key: key not in (*KNOWN_COLUMNS, *UNUSED_COLUMNS, *TAGS)))
def test_no_unknown_key_of_columns_or_tags_is_lost(key):
    for block, values in {"columns": {**COLUMNS, key: "x"}, "tags": {key: "x"}}.items():
        with pytest.raises(ValueError, match="has the unknown key"):
            check(**{block: values})


def test_all_keys_of_the_host_are_known():
    """Those of a newer host would otherwise be refused as unknown."""
    attr = DatasetAttr("file", dataset_name="d")
    attr.join({"columns": {}, "tags": {}})
    keys = {*KNOWN_COLUMNS, *UNUSED_COLUMNS, *TAGS, *ENTRY_KEYS} - {"long_prompt"}
    assert set(vars(attr)) - {"load_from", "dataset_name", "entry", "long_prompt"} <= keys


@pytest.mark.parametrize("block", ["columns", "tags"])
@pytest.mark.parametrize("value", [["prompt"], "prompt", 3])
def test_a_block_that_is_no_object(refused, tmp_path, block, value):
    refused(f'no object as "{block}"', **write_entry(tmp_path / "data", make_rows(1), **{block: value}))


@pytest.mark.parametrize("key", [key for key in KNOWN_COLUMNS if key != "prompt"])
def test_a_column_that_no_row_has_is_refused_by_name(refused, tmp_path, key):
    folder = write_entry(tmp_path / "data", make_rows(2), columns={**COLUMNS, key: "nowhere"})
    refused(f"no field `nowhere` in any row, which its entry in dataset_info.json names as `{key}`", **folder)


def test_query_and_history_stand_where_the_host_s_alpaca_format_has_them(load, tmp_path):
    """The host's own dpo stage on the short and on the long prompt sees the same prompts, token for token."""
    from llamafactory.data.converter import AlpacaDatasetConverter

    rows = [
        {**row, "question": question, "turns": turns, "task": "Be short."}
        for row, question, turns in zip(
            make_rows(4),
            ["Which?", "", None, "Where?"],
            [[["a", "b"]], [], None, [["amber", "basin"], ["cedar", "delta"]]],
        )
    ]
    columns = {**COLUMNS, "query": "question", "history": "turns", "system": "task"}
    module, _ = load(**write_entry(tmp_path / "data", rows, columns=columns))
    for view in ("short", "long"):
        host = {**columns, "prompt": f"{view}_prompt"}
        attr = DatasetAttr("file", dataset_name="d")
        attr.join({"ranking": True, "columns": {key: value for key, value in host.items() if key != "long_prompt"}})
        converted = [AlpacaDatasetConverter(attr, data_args=None)(row) for row in rows]
        as_messages = [
            {**row, f"{view}_prompt": output["_prompt"], "system": output["_system"]}
            for row, output in zip(rows, converted)
        ]
        other, _ = load(**write_entry(tmp_path / view, as_messages))
        ids = f"{view}_prompt_ids"
        assert module["train_dataset"][ids][:] == other["train_dataset"][ids][:]

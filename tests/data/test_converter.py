"""Records in every accepted form, and a named reason for every other one."""

import json

import pytest
from llamafactory.data.parser import DatasetAttr

from solopo_llamafactory.data.converter import FEATURES, SolopoDatasetConverter


ROW = {"id": 7, "short_prompt": "s", "long_prompt": "l", "chosen": "c", "rejected": "r"}


def convert(row: dict, fields: list[str] | None = None, **entry) -> dict:
    columns = {"prompt": "short_prompt", "long_prompt": "long_prompt", "chosen": "chosen", "rejected": "rejected"}
    attr = DatasetAttr("file", dataset_name="d")
    attr.join({"formatting": "solopo", "ranking": True, "columns": columns, **entry})
    attr.long_prompt, attr.key, attr.fields = "long_prompt", "d", fields
    return SolopoDatasetConverter(attr, data_args=None)(row)


def user(content: str) -> list[dict]:
    return [{"role": "user", "content": content}]


def test_prompts_as_text():
    row = convert(ROW)
    assert row["drop_reason"] is None
    assert row["id"] == "7"
    assert row["short_prompt"] == user("s") and row["long_prompt"] == user("l")
    assert (row["chosen"], row["rejected"]) == ("c", "r")
    assert list(row) == list(FEATURES)


OPENAI = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
]
SHAREGPT = [
    {"from": "system", "value": "Be short."},
    {"from": "human", "value": "a"},
    {"from": "gpt", "value": "b"},
    {"from": "human", "value": "c"},
]


@pytest.mark.parametrize("messages", [OPENAI, SHAREGPT])
def test_prompts_as_messages(messages):
    row = convert({**ROW, "short_prompt": messages, "long_prompt": messages})
    assert row["drop_reason"] is None
    assert row["short_system"] == row["long_system"] == "Be short."
    assert row["short_prompt"] == OPENAI[1:] == row["long_prompt"]


def test_a_prompt_may_be_one_message():
    row = convert(
        {**ROW, "short_prompt": {"role": "user", "content": "s"}, "long_prompt": {"from": "human", "value": "l"}}
    )
    assert (row["short_prompt"], row["long_prompt"]) == (user("s"), user("l"))


def test_arrow_fills_absent_keys_with_null():
    messages = [{"from": "human", "value": "a", "role": None, "content": None}]
    assert convert({**ROW, "short_prompt": messages})["short_prompt"] == user("a")


def test_tags_of_dataset_info():
    messages = [{"speaker": "Kunde", "text": "a"}]
    row = convert(
        {**ROW, "long_prompt": messages}, tags={"role_tag": "speaker", "content_tag": "text", "user_tag": "Kunde"}
    )
    assert row["long_prompt"] == user("a")


def test_tool_results_may_end_a_prompt():
    messages = [
        {"role": "user", "content": "a"},
        {"from": "function_call", "value": "{}"},
        {"role": "tool", "content": "result"},
    ]
    row = convert({**ROW, "short_prompt": messages})
    assert [message["role"] for message in row["short_prompt"]] == ["user", "function", "observation"]


def test_the_system_field():
    assert convert({**ROW, "system": "Be short."})["short_system"] == "Be short."
    assert convert({**ROW, "system": None})["short_system"] == ""


COLUMNS = {"prompt": "short_prompt", "long_prompt": "long_prompt", "chosen": "chosen", "rejected": "rejected"}
TURNS = {"columns": {**COLUMNS, "query": "question", "history": "turns"}}


@pytest.mark.parametrize("question, expected", [("q", "{}\nq"), ("", "{}"), (None, "{}"), (" \n", "{}")])
def test_a_query_follows_both_prompts_on_a_new_line(question, expected):
    row = convert({**ROW, "question": question}, **TURNS)
    assert row["drop_reason"] is None
    assert row["short_prompt"] == user(expected.format("s")) and row["long_prompt"] == user(expected.format("l"))


@pytest.mark.parametrize("turns", [None, [], [["a", "b"]], [["a", "b"], ["c", ""]]])
def test_history_stands_before_both_prompts(turns):
    row = convert({**ROW, "turns": turns}, **TURNS)
    earlier = [
        {"role": role, "content": text} for turn in turns or [] for role, text in zip(("user", "assistant"), turn)
    ]
    assert row["short_prompt"] == [*earlier, *user("s")] and row["long_prompt"] == [*earlier, *user("l")]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"turns": "a"}, "history is not a list of [question, answer] pairs of text"),
        ({"turns": [["a"]]}, "history is not a list of [question, answer] pairs of text"),
        ({"turns": [["a", 3]]}, "history is not a list of [question, answer] pairs of text"),
        ({"question": 3}, "query is not text"),
        ({"short_prompt": "", "question": "q"}, "empty short_prompt"),
        ({"short_prompt": user("s"), "question": "q"}, "short_prompt is a list of messages beside a `query` column"),
        (
            {"long_prompt": user("l"), "turns": [["a", "b"]]},
            "long_prompt is a list of messages beside a `history` column",
        ),
    ],
)
def test_reasons_of_query_and_history(change, reason):
    assert convert({**ROW, **change}, **TURNS)["drop_reason"] == reason


@pytest.mark.parametrize("media", ["images", "videos", "audios"])
@pytest.mark.parametrize(
    "value, dropped", [(["a.png"], True), ("a.png", True), ([], False), (None, False), ("", False)]
)
def test_only_rows_that_hold_media_are_dropped(media, value, dropped):
    entry = {"columns": {**COLUMNS, media: "files"}}
    assert convert({**ROW, "files": value}, **entry)["drop_reason"] == (f"has {media}" if dropped else None)
    assert convert({**ROW, media: value})["drop_reason"] == (f"has {media}" if dropped else None)


def test_ids_come_from_the_content_where_there_are_none():
    without = {key: value for key, value in ROW.items() if key != "id"}
    assert convert(without)["id"] == convert(dict(reversed(without.items())))["id"]
    assert convert(without)["id"] != convert({**without, "chosen": "other"})["id"]
    assert convert({**without, "chosen": None})["id"]  # dropped rows have one too


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"chosen": None}, "no chosen"),
        ({"rejected": ""}, "empty rejected"),
        ({"long_prompt": " \n"}, "empty long_prompt"),
        ({"short_prompt": []}, "empty short_prompt"),
        ({"chosen": "same ", "rejected": "same"}, "chosen equals rejected"),
        ({"chosen": 1960}, "chosen is not text"),
        ({"short_prompt": 5}, "short_prompt is not text"),
        ({"system": 3}, "system is not text"),
        ({"short_prompt": [{"role": "wizard", "content": "a"}]}, "short_prompt has an odd role"),
        ({"short_prompt": [{"content": "a"}]}, "short_prompt has an odd role"),
        ({"short_prompt": ["a"]}, "short_prompt has a message that is not an object"),
        ({"short_prompt": [{"role": "user", "content": ["a"]}]}, "short_prompt has a message without text"),
        ({"long_prompt": user("a") + user("b")}, "long_prompt has roles in an odd order"),
        (
            {"long_prompt": [*user("a"), {"role": "assistant", "content": "b"}]},
            "long_prompt does not end with the user",
        ),
        ({"long_prompt": [{"role": "system", "content": "a"}]}, "long_prompt does not end with the user"),
        ({"long_prompt": user("  ")}, "empty long_prompt"),
        ({"short_prompt": [{"role": ["user"], "content": "a"}]}, "short_prompt has an odd role"),
        ({"images": ["a.png"]}, "has images"),
        ({"chosen": "1960-01-31 00:00:00"}, "chosen is a bare date, which the datasets library may have rewritten"),
        (
            {"long_prompt": user("1960-01-31 10:11:12.5")},
            "long_prompt is a bare date, which the datasets library may have rewritten",
        ),
    ],
)
def test_reasons(change, reason):
    row = convert({**ROW, **change})
    assert row["drop_reason"] == reason
    assert row["id"] == "7"
    assert list(row) == list(FEATURES)


ANSWERS = [
    {"role": "assistant", "content": "c"},
    [{"role": "assistant", "content": "c"}],
    {"from": "gpt", "value": "c"},
    [{"from": "gpt", "value": "c", "role": None, "content": None}],
    {"role": "assistant", "content": [{"type": "text", "text": "c"}]},
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_may_be_a_message_of_the_assistant(answer):
    row = convert({**ROW, "chosen": answer, "rejected": {"role": "assistant", "content": "r"}})
    assert (row["drop_reason"], row["chosen"], row["rejected"]) == (None, "c", "r")


def test_an_answer_s_tags_are_those_of_dataset_info():
    tags = {"role_tag": "speaker", "content_tag": "text", "assistant_tag": "Berater"}
    assert convert({**ROW, "chosen": {"speaker": "Berater", "text": "c"}}, tags=tags)["chosen"] == "c"


@pytest.mark.parametrize(
    "answer, reason, value",
    [
        (
            [*user("s"), {"role": "assistant", "content": "c"}],
            "rejected holds messages before the answer",
            '[{"role": "us',
        ),
        (user("c"), "rejected is no message of the assistant", '[{"role": "user", "content": "c"}] in 7'),
        ({"role": "assistant"}, "rejected has a message without text", '{"role": "assistant"}'),
        ({"text": "c"}, "rejected has an odd role", '{"text": "c"}'),
        (["c"], "rejected is not text", '["c"]'),
        ([], "empty rejected", "7"),
        ({"role": "assistant", "content": " "}, "empty rejected", "7"),
        (True, "rejected is not text", "true in 7"),
        ("c" * 200 + "d", None, None),
        (["c" * 200], "rejected is not text", '["' + "c" * 78 + "..."),
        (
            {"role": "assistant", "content": [{"type": "image_url", "image_url": "a"}]},
            "rejected has a message without text",
            '{"role": ',
        ),
    ],
)
def test_other_answers_are_dropped_with_their_value(answer, reason, value):
    row = convert({**ROW, "rejected": answer})
    assert row["drop_reason"] == reason
    assert row["drop_value"] == value or row["drop_value"].startswith(value)


def test_a_record_of_a_json_file():
    """It comes as text with its place, is of any types, and a date in it is what was written."""
    row = convert(
        {"record": json.dumps({**ROW, "id": None, "chosen": "1960-01-31 00:00:00"}), "place": "a line 3"}, []
    )
    assert (row["id"], row["drop_reason"], row["chosen"]) == ("a line 3", None, "1960-01-31 00:00:00")
    row = convert({"record": json.dumps({**ROW, "chosen": 5}), "place": "a line 3"}, [])
    assert (row["id"], row["drop_value"]) == ("7", "5 in a line 3")


def test_a_missing_field_is_a_missing_value():
    row = {key: value for key, value in ROW.items() if key != "chosen"}
    assert convert(row)["drop_reason"] == "no chosen"


@pytest.mark.parametrize(
    "meta, gold",
    [
        ({"answers": ["Esk"], "wording": "direct", "hops": 2}, {"answers": ["Esk"], "wording": "direct"}),
        (json.dumps({"answers": ["Esk"]}), {"answers": ["Esk"], "wording": None}),
        ({"answers": "Esk"}, None),
        ({"answers": []}, None),
        ({"source": "web"}, None),
        ("by hand", None),
        (None, None),
    ],
)
def test_right_answers_come_from_our_own_meta_alone(meta, gold):
    """What `solopo_probe` judges by; a `meta` of anyone else's is no error."""
    row = convert({**ROW, "meta": meta})
    assert row["drop_reason"] is None
    assert (None if row["gold"] is None else json.loads(row["gold"])) == gold

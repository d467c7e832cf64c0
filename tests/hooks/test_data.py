"""The stage's data through the host's loader: every option a user combines, and every file that is wrong."""

import json
import logging

import pandas as pd
import pytest

from tests.helpers.runs import make_rows, write_dataset


@pytest.fixture
def folder(tmp_path):
    """A dataset folder with 12 examples of which 3 are dropped."""
    rows = make_rows(12)
    rows[2]["chosen"] = None
    rows[5]["rejected"] = rows[5]["chosen"]
    rows[7]["long_prompt"] = "amber " * 600
    write_dataset(tmp_path / "data", rows)
    return tmp_path / "data"


DROPPED = {"no chosen": 1, "chosen equals rejected": 1, "over-long": 1}


@pytest.mark.parametrize("workers", [None, 2])
def test_rows_are_dropped_and_counted(load, folder, workers):
    module, (report,) = (
        (result := load(dataset_dir=str(folder), preprocessing_num_workers=workers))[0],
        result[1]["train"],
    )
    assert report.dropped == DROPPED
    assert module["train_dataset"]["id"][:] == [f"example-{i}" for i in (0, 1, 3, 4, 6, 8, 9, 10, 11)]
    assert (
        module["train_dataset"].column_names[0] == "id" and "drop_reason" not in module["train_dataset"].column_names
    )


def test_counts_survive_the_cache(load, folder):
    """The second load maps nothing: counters kept on the converter or processor would be lost."""
    for _ in range(2):
        _, reports = load(dataset_dir=str(folder), overwrite_cache=False)
        assert reports["train"][0].dropped == DROPPED


def test_another_cutoff_needs_no_new_tokens(load, folder):
    _, reports = load(dataset_dir=str(folder), overwrite_cache=False, cutoff_len=4096)
    assert "over-long" not in reports["train"][0].dropped


def test_a_late_reason_is_no_type_error(load, tmp_path):
    """The first thousand rows have no reason at all, and Arrow takes a column's type from the first batch."""
    rows = make_rows(30)
    rows[25]["chosen"] = ""
    write_dataset(tmp_path / "data", rows)
    _, reports = load(dataset_dir=str(tmp_path / "data"), preprocessing_batch_size=5)
    assert reports["train"][0].dropped == {"empty chosen": 1}


def test_validation_split_eval_dataset_and_mixing(load, folder):
    module, reports = load(dataset_dir=str(folder), val_size=0.25)
    kept = {split: sum(report.num_kept for report in reports[split]) for split in reports}
    assert kept == {"train": len(module["train_dataset"]), "eval": len(module["eval_dataset"])}
    assert sum(kept.values()) == 9

    write_dataset(folder, make_rows(4, seed=1), name="more")
    module, reports = load(dataset_dir=str(folder), dataset="pairs,more", eval_dataset="more", max_samples=3)
    assert len(module["train_dataset"]) == 2 + 3  # row 2 of the first has no chosen
    assert len(module["eval_dataset"]) == 3

    module, reports = load(
        dataset_dir=str(folder), eval_dataset="pairs,more", eval_on_each_dataset=True, mix_strategy="concat"
    )
    assert {name: len(dataset) for name, dataset in module["eval_dataset"].items()} == {"pairs": 9, "more": 4}
    assert [report.num_kept for report in reports["eval"]] == [9, 4]


def test_messages_and_system_in_a_file(load, tmp_path):
    rows = [
        {
            **row,
            "short_prompt": [{"role": "user", "content": row["short_prompt"]}],
            "long_prompt": [{"role": "user", "content": row["long_prompt"]}],
            "system": "Be short.",
        }
        for row in make_rows(3)
    ]
    write_dataset(tmp_path / "messages", rows)
    as_messages = load(dataset_dir=str(tmp_path / "messages"))[0]["train_dataset"]
    write_dataset(tmp_path / "text", [{**row, "system": "Be short."} for row in make_rows(3)])
    as_text = load(dataset_dir=str(tmp_path / "text"))[0]["train_dataset"]
    assert as_messages["short_prompt_ids"][:] == as_text["short_prompt_ids"][:]


def test_overlong_as_an_error(load, folder):
    with pytest.raises(ValueError, match="`example-7` of data set `pairs` has"):
        load(dataset_dir=str(folder), solopo_overlong="error")


@pytest.mark.parametrize("stage", ["sft", "dpo", "rm"])
def test_a_solopo_dataset_under_another_stage_names_its_views(refused, folder, stage):
    refused("`pairs_short` or `pairs_long`", stage=stage, dataset_dir=str(folder))


def test_a_solopo_dataset_without_views_says_how_to_add_one(refused, folder):
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({"pairs": info["pairs"]}))
    refused("add an entry for the same file", stage="dpo", dataset_dir=str(folder))


def test_nothing_left_lists_the_reasons(refused, tmp_path):
    rows = make_rows(3)
    for row in rows:
        del row["chosen"]
    rows[0]["chosen"] = "plaza " * 600
    write_dataset(tmp_path / "data", rows)
    refused(
        "All 3 examples of data set `pairs` are dropped from the train data: no chosen (2, such as pairs.jsonl line 2), over-long (1)",
        dataset_dir=str(tmp_path / "data"),
    )


@pytest.mark.parametrize(
    "broken, words",
    [
        ('{"short_prompt": "a", "long_prompt": "b", "chosen": "c", "rejected": \n', "line 2 is not JSON"),
        (
            '{"short_prompt": "a", "long_prompt": "b", "chosen": "\\ud800", "rejected": "d"}\n',
            "line 2: the field `chosen` holds half of a character",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(refused, tmp_path, broken, words):
    write_dataset(tmp_path / "data", make_rows(1))
    path = tmp_path / "data" / "pairs.jsonl"
    path.write_text(path.read_text() + broken)
    refused(words, dataset_dir=str(tmp_path / "data"))


def test_odd_texts_in_a_file_are_kept_to_the_letter(load, tmp_path, tiny_qwen2):
    """What JSON can spell: controls, null bytes, emoji from surrogate pairs, joiners, byte order marks, 300 KB."""
    from transformers import AutoTokenizer

    odd = [
        "\0a",
        "\x1b[0m\x7f\x85",
        "\U0001f468\u200d\U0001f469",
        "\ufeffa\u202e",
        "e\u0301",
        "<|im_end|>",
        "1960",
        "NaN",
    ]
    odd += ["1960-01-31", "amber " * 50_000, " a ", "\u2028\u2029a", "{{content}}", "null"]
    rows = make_rows(len(odd))
    for row, text in zip(rows, odd):
        row["chosen"] = text
    write_dataset(tmp_path / "data", rows)
    module, reports = load(dataset_dir=str(tmp_path / "data"), cutoff_len=10**6)
    decode = AutoTokenizer.from_pretrained(tiny_qwen2).decode
    assert [decode(ids) for ids in module["train_dataset"]["chosen_ids"]] == [f"{text}<|im_end|>\n" for text in odd]
    assert reports["train"][0].chat_tokens == {"<|im_end|>": 1}


def test_a_table_of_dates_is_named(refused, tmp_path):
    """The datasets library reads such a column as times; how they were written is lost."""
    rows = pd.DataFrame(make_rows(2)).assign(chosen=pd.Timestamp("1960-01-31"))
    write_dataset(tmp_path / "data", [])
    rows.to_parquet(tmp_path / "data" / "pairs.parquet")
    info_path = tmp_path / "data" / "dataset_info.json"
    info_path.write_text(info_path.read_text().replace("pairs.jsonl", "pairs.parquet"))
    refused("nothing but dates in the field `chosen`", dataset_dir=str(tmp_path / "data"))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_named(refused, tmp_path, content):
    write_dataset(tmp_path / "data", [])
    (tmp_path / "data" / "pairs.jsonl").write_text(content)
    refused("pairs.jsonl is empty", dataset_dir=str(tmp_path / "data"))


def test_text_trains_with_a_multimodal_template(train, load, tmp_path):
    """Rows that hold media are dropped and counted, the others trained on."""
    rows = [{**row, "pictures": ["a.png"] if number == 1 else []} for number, row in enumerate(make_rows(8))]
    rows[3]["chosen"] = "<image> of a jetty"
    write_dataset(tmp_path / "data", rows)
    info_path = tmp_path / "data" / "dataset_info.json"
    info = json.loads(info_path.read_text())
    info["pairs"]["columns"]["images"] = "pictures"
    info_path.write_text(json.dumps(info))
    arguments = {"dataset_dir": str(tmp_path / "data"), "template": "qwen2_vl"}
    assert load(**arguments)[1]["train"][0].dropped == {"has images": 1, "chosen holds the placeholder <image>": 1}
    assert len(train(**arguments)) == 3


def test_a_data_set_of_a_mix_that_is_lost_is_an_error(refused, folder):
    write_dataset(folder, [{**row, "chosen": "plaza " * 600} for row in make_rows(4, seed=1)], name="more")
    words = "All 4 examples of data set `more` are dropped from the train data: over-long (4): raise `cutoff_len` (it is 512"
    refused(words, dataset_dir=str(folder), dataset="pairs,more")
    words = words.replace("train", "eval")
    refused(words, dataset_dir=str(folder), eval_dataset="pairs,more", do_eval=True)
    refused(words, dataset_dir=str(folder), eval_dataset="pairs,more", eval_on_each_dataset=True, do_eval=True)


@pytest.fixture
def warnings_of(load, caplog):
    """Load and return the warnings about data sets."""

    def run(**overrides) -> list[str]:
        logger = logging.getLogger("llamafactory")
        logger.addHandler(caplog.handler)
        caplog.clear()
        try:
            load(**overrides)
        finally:
            logger.removeHandler(caplog.handler)
        records = [record for record in caplog.records if "of data set" in record.message]
        assert {record.levelno for record in records} <= {logging.WARNING}
        return [record.message for record in records]

    return run


def test_a_lost_fifth_is_a_warning_also_from_tokens(warnings_of, folder, tmp_path):
    """Two entries of one file are two data sets."""
    info = json.loads((folder / "dataset_info.json").read_text())
    info["again"] = {**info["pairs"], "columns": {**info["pairs"]["columns"], "system": "id"}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    arguments = {"dataset_dir": str(folder), "dataset": "pairs,again", "tokenized_path": str(tmp_path / "tokens")}
    for _ in range(2):
        warnings = warnings_of(**arguments)
        assert [warning.split(":")[0] for warning in warnings] == [
            f"3 of 12 examples of data set `{name}` are dropped from the train data" for name in ("pairs", "again")
        ]


@pytest.mark.parametrize(
    "short, long, words",
    [
        (
            "long_prompt",
            "short_prompt",
            "The short prompt is longer than the long one in 5 of 5 rows of data set `pairs`",
        ),
        ("long_prompt", "long_prompt", "The short prompt equals the long one in 5 of 5 rows of data set `pairs`"),
        ("short_prompt", "short_prompt", "The short prompt equals the long one in 5 of 5 rows of data set `pairs`"),
    ],
)
def test_columns_that_are_exchanged_or_equal(warnings_of, tmp_path, short, long, words):
    write_dataset(tmp_path / "data", make_rows(5))
    info_path = tmp_path / "data" / "dataset_info.json"
    info = json.loads(info_path.read_text())
    info["pairs"]["columns"] |= {"prompt": short, "long_prompt": long}
    info_path.write_text(json.dumps(info))
    (warning,) = warnings_of(dataset_dir=str(tmp_path / "data"))
    assert warning.startswith(words)
    assert warnings_of(dataset_dir=str(tmp_path / "data"), solopo_view="long") == []


def test_prompts_that_a_chat_template_has_rendered(warnings_of, tmp_path):
    turn = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    rows = [{**row, "short_prompt": turn.format("a"), "long_prompt": turn.format("a b")} for row in make_rows(3)]
    write_dataset(tmp_path / "data", rows)
    (warning,) = warnings_of(dataset_dir=str(tmp_path / "data"))
    assert warning.startswith("A chat template has rendered the prompts before in 3 of 3 rows of data set `pairs`")

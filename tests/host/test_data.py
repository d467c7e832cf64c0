"""The stage's data through the host's loader: every option a user combines, and every file that is wrong."""

import json

import pytest
from llamafactory.hparams import get_train_args

from conftest import COLUMNS, make_rows, write_dataset
from solopo_llamafactory.host.data import load_data
from solopo_llamafactory.host.imports import get_template_and_fix_tokenizer, load_tokenizer


@pytest.fixture
def load(arguments):
    """Parse arguments and load their data as the workflow does: (dataset module, reports)."""

    def run(**overrides):
        model_args, data_args, training_args, finetuning_args, _ = get_train_args(arguments(**overrides))
        tokenizer_module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data_args)
        return load_data(template, model_args, data_args, training_args, finetuning_args, **tokenizer_module)

    return run


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


def test_tokenized_path_is_written_whole_and_read_back(load, folder, tmp_path):
    path = tmp_path / "tokenized"
    first, first_reports = load(dataset_dir=str(folder), tokenized_path=str(path))
    saved = json.loads((path / "solopo.json").read_text())
    assert saved["fingerprint"]["cutoff_len"] == 512
    assert saved["reports"]["train"][0]["dropped"] == DROPPED

    (folder / "pairs.jsonl").unlink()  # nothing but the folder is read
    again, again_reports = load(dataset_dir=str(folder), tokenized_path=str(path))
    assert again["train_dataset"]["chosen_ids"][:] == first["train_dataset"]["chosen_ids"][:]
    assert again_reports == first_reports


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"cutoff_len": 256}, "another `cutoff_len`"),
        ({"template": "chatml"}, "another `template`"),
        ({"solopo_view": "long"}, "another `solopo_view`"),
        ({"solopo_overlong": "error"}, "another `solopo_overlong`"),
        ({"val_size": 0.5}, "another `val_size`"),
        ({"model_name_or_path": "llama"}, "another tokenizer"),
    ],
)
def test_tokenized_path_of_other_settings_is_refused(load, folder, tmp_path, tiny_llama, changed, words):
    path = str(tmp_path / "tokenized")
    load(dataset_dir=str(folder), tokenized_path=path)
    if changed.get("model_name_or_path") == "llama":
        changed = {"model_name_or_path": tiny_llama}
    with pytest.raises(ValueError, match=words):
        load(dataset_dir=str(folder), tokenized_path=path, **changed)


def test_tokenized_path_of_another_stage_is_refused(load, train, tmp_path):
    path = str(tmp_path / "tokenized")
    train(stage="dpo", dataset="pairs_short", tokenized_path=path, max_steps=1, output_dir=str(tmp_path / "dpo"))
    with pytest.raises(ValueError, match="was not made by `stage: solopo`"):
        load(tokenized_path=path)


def test_overlong_as_an_error(load, folder):
    with pytest.raises(ValueError, match="`example-7` has"):
        load(dataset_dir=str(folder), solopo_overlong="error")


def refused(train, tmp_path, words: str, **overrides) -> None:
    """Assert one sentence with `words` and no output directory."""
    with pytest.raises(ValueError) as error:
        train(**overrides)
    assert words in str(error.value), error.value
    assert "\n" not in str(error.value)
    assert not (tmp_path / "output").exists()


def change_entry(folder, **change) -> str:
    info = json.loads((folder / "dataset_info.json").read_text())
    info["pairs"] = {key: value for key, value in {**info["pairs"], **change}.items() if value is not None}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return str(folder)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"columns": {key: value for key, value in COLUMNS.items() if key != "long_prompt"}}, "`long_prompt`"),
        ({"columns": None}, "`long_prompt`"),
        ({"formatting": "alpaca"}, 'needs "formatting": "solopo"'),
        ({"ranking": False}, '"ranking": true'),
        ({"columns": {**COLUMNS, "images": "images"}}, "trains on text only"),
        ({"columns": {**COLUMNS, "long_prompt": "context"}}, "has no field `context`"),
    ],
)
def test_a_wrong_entry_is_refused(train, folder, tmp_path, change, words):
    refused(train, tmp_path, words, dataset_dir=change_entry(folder, **change))


@pytest.mark.parametrize("stage", ["sft", "dpo", "rm"])
def test_a_solopo_dataset_under_another_stage_names_its_views(train, folder, tmp_path, stage):
    refused(train, tmp_path, "`pairs_short` or `pairs_long`", stage=stage, dataset_dir=str(folder))


def test_a_solopo_dataset_without_views_says_how_to_add_one(train, folder, tmp_path):
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({"pairs": info["pairs"]}))
    refused(train, tmp_path, "add an entry for the same file", stage="dpo", dataset_dir=str(folder))


def test_nothing_left_lists_the_reasons(train, tmp_path):
    rows = make_rows(3)
    for row in rows:
        del row["chosen"]
    rows[0]["chosen"] = "plaza " * 600
    write_dataset(tmp_path / "data", rows)
    refused(train, tmp_path, "no chosen (2), over-long (1)", dataset_dir=str(tmp_path / "data"))


@pytest.mark.parametrize(
    "broken, words",
    [
        ('{"short_prompt": "a", "long_prompt": "b", "chosen": "c", "rejected": \n', "line 2 is not JSON"),
        (
            '{"short_prompt": "a", "long_prompt": "b", "chosen": "\\ud800", "rejected": "d"}\n',
            "line 2: the field `chosen` holds half of a character",
        ),
        ('{"short_prompt": ["a"], "long_prompt": "b", "chosen": "c", "rejected": "d"}\n', "`short_prompt`"),
    ],
)
def test_a_file_that_arrow_cannot_read_is_named(train, tmp_path, broken, words):
    write_dataset(tmp_path / "data", make_rows(1))
    path = tmp_path / "data" / "pairs.jsonl"
    path.write_text(path.read_text() + broken)
    refused(train, tmp_path, words, dataset_dir=str(tmp_path / "data"))


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


def test_a_date_that_the_datasets_library_rewrites_is_dropped(load, tmp_path):
    """It reads 10 MB at a time; the last part may hold a single row, whose answer is a date and no text to it."""
    rows = make_rows(2)
    rows[0]["meta"] = "m" * (10 << 20)
    rows[1]["chosen"] = "1960-01-31"
    write_dataset(tmp_path / "data", rows)
    _, reports = load(dataset_dir=str(tmp_path / "data"))
    assert reports["train"][0].dropped == {"chosen is a bare date, which reading JSON may have rewritten": 1}


def test_a_field_of_nothing_but_dates_is_named(train, tmp_path):
    rows = [{**row, "chosen": "1960-01-31", "rejected": "1960-02-01"} for row in make_rows(2)]
    write_dataset(tmp_path / "data", rows)
    refused(train, tmp_path, "nothing but dates in the field `chosen`", dataset_dir=str(tmp_path / "data"))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_named(train, tmp_path, content):
    write_dataset(tmp_path / "data", [])
    (tmp_path / "data" / "pairs.jsonl").write_text(content)
    refused(train, tmp_path, "pairs.jsonl is empty", dataset_dir=str(tmp_path / "data"))


def test_a_template_with_images_is_refused(train, tmp_path):
    refused(train, tmp_path, "trains on text only", template="qwen2_vl")

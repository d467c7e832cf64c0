"""`tokenized_path`: written whole, read back, and never used for what it was not made from."""

import copy
import json
import logging
import os
import shutil
import time

import pytest
from llamafactory.data.template import TEMPLATES

from tests.helpers.runs import COLUMNS, make_rows, write_dataset


@pytest.fixture
def folder(tmp_path):
    """A dataset folder with 12 examples of which one is dropped, and 4 more."""
    rows = make_rows(12)
    rows[2]["chosen"] = None
    write_dataset(tmp_path / "data", rows)
    write_dataset(tmp_path / "data", make_rows(4, seed=1), name="more")
    return tmp_path / "data"


@pytest.fixture
def prepare(load, folder, tmp_path):
    """Load with `tokenized_path`, which the second time reads the folder."""

    def run(**overrides):
        return load(**{"dataset_dir": str(folder), "tokenized_path": str(tmp_path / "tokenized"), **overrides})

    return run


def change_entry(folder, **change) -> None:
    info = json.loads((folder / "dataset_info.json").read_text())
    info["pairs"] |= change
    (folder / "dataset_info.json").write_text(json.dumps(info))


def test_it_is_written_whole_and_read_back(prepare, tmp_path):
    first, first_reports = prepare()
    saved = json.loads((tmp_path / "tokenized" / "solopo.json").read_text())
    assert saved["fingerprint"]["cutoff_len"] == 512
    assert saved["reports"]["train"][0]["dropped"] == {"no chosen": 1}
    again, again_reports = prepare()
    assert again["train_dataset"]["chosen_ids"][:] == first["train_dataset"]["chosen_ids"][:]
    assert again_reports == first_reports


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"cutoff_len": 256}, "another `cutoff_len`"),
        ({"template": "chatml"}, "another `template`"),
        ({"default_system": "Be short."}, "another `default_system`"),
        ({"enable_thinking": False}, "another `enable_thinking`"),
        ({"solopo_view": "long"}, "another `solopo_view`"),
        ({"solopo_overlong": "error"}, "another `solopo_overlong`"),
        ({"val_size": 0.5}, "another `val_size`"),
        ({"max_samples": 3}, "another `max_samples`"),
        ({"dataset": "pairs,more"}, "another `dataset`"),
        ({"eval_dataset": "more"}, "another `eval_dataset`"),
        ({"split_special_tokens": True}, "another tokenizer"),
        ({"model_name_or_path": "llama"}, "another tokenizer"),
    ],
)
def test_other_settings_are_refused(prepare, monkeypatch, tiny_llama, changed, words):
    monkeypatch.setitem(TEMPLATES, "qwen", copy.deepcopy(TEMPLATES["qwen"]))  # the host writes its arguments into it
    prepare()
    if changed.get("model_name_or_path") == "llama":
        changed = {"model_name_or_path": tiny_llama}
    with pytest.raises(ValueError, match=words):
        prepare(**changed)


@pytest.mark.parametrize(
    "settings, changed, words",
    [
        ({"val_size": 0.25}, {"seed": 7}, "another `seed`"),
        ({"dataset": "pairs,more"}, {"mix_strategy": "interleave_under"}, "another `mix_strategy`"),
        ({"dataset": "pairs,more", "mix_strategy": "interleave_under"}, {"seed": 7}, "another `seed`"),
        (
            {"dataset": "pairs,more", "mix_strategy": "interleave_under"},
            {"interleave_probs": "0.9,0.1"},
            "another `interleave_probs`",
        ),
        ({"eval_dataset": "pairs,more"}, {"eval_on_each_dataset": True}, "another `eval_on_each_dataset`"),
    ],
)
def test_what_matters_to_a_mix_or_split_is_compared_there(prepare, settings, changed, words):
    prepare(**settings)
    with pytest.raises(ValueError, match=words):
        prepare(**{**settings, **changed})


@pytest.mark.parametrize("changed", [{"seed": 7}, {"mix_strategy": "interleave_under"}, {"learning_rate": 1.0}])
def test_what_makes_no_difference_is_not(prepare, changed):
    prepare()
    prepare(**changed)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"columns": {**COLUMNS, "prompt": "long_prompt"}}, "another `prompt` of data set `pairs`"),
        ({"columns": {**COLUMNS, "query": "id"}}, "another `query`"),
        ({"columns": {**COLUMNS, "long_prompt": "short_prompt"}}, "another `long_prompt`"),
        ({"tags": {"role_tag": "from", "content_tag": "value", "user_tag": "Kunde"}}, "another `user_tag`"),
        ({"num_samples": 5}, "another `num_samples`"),
    ],
)
def test_another_entry_is_refused(prepare, folder, change, words):
    prepare()
    change_entry(folder, **change)
    with pytest.raises(ValueError, match=words):
        prepare()


def test_the_seed_matters_where_rows_are_drawn(prepare, folder):
    change_entry(folder, num_samples=5)
    prepare()
    with pytest.raises(ValueError, match="another `seed`"):
        prepare(seed=7)


CHANGED = "made from another content of data set `pairs`"


def test_a_file_written_anew_is_refused(prepare, folder):
    """Also one of the same size and time."""
    prepare()
    path = folder / "pairs.jsonl"
    status, text = path.stat(), path.read_text()
    path.write_text(text.replace("Which?", "Where?", 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    with pytest.raises(ValueError, match=CHANGED):
        prepare()
    path.write_text(text)
    prepare()


def test_the_same_name_in_another_folder_is_refused(prepare, tmp_path):
    prepare()
    write_dataset(tmp_path / "elsewhere", make_rows(3, seed=5))
    with pytest.raises(ValueError, match=CHANGED):
        prepare(dataset_dir=str(tmp_path / "elsewhere"))


def test_the_evaluation_data_are_compared_too(prepare, folder):
    prepare(eval_dataset="more")
    write_dataset(folder, make_rows(4, seed=2), name="more")
    with pytest.raises(ValueError, match="another content of data set `more`"):
        prepare(eval_dataset="more")


def test_a_folder_of_files_is_compared(prepare, folder):
    (folder / "parts").mkdir()
    for part in ("a", "b"):
        shutil.copy(folder / "pairs.jsonl", folder / "parts" / f"{part}.jsonl")
    change_entry(folder, file_name="parts")
    prepare()
    prepare()
    (folder / "parts" / "b.jsonl").unlink()
    with pytest.raises(ValueError, match=CHANGED):
        prepare()


def test_a_copy_elsewhere_under_another_file_name_is_the_same(prepare, folder, tmp_path):
    """Data and tokens are copied to a cluster: later times, other folders."""
    prepare()
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "pairs.jsonl").rename(tmp_path / "copy" / "train.jsonl")
    change_entry(tmp_path / "copy", file_name="train.jsonl")
    os.utime(tmp_path / "copy" / "train.jsonl", (time.time() + 99,) * 2)
    shutil.move(tmp_path / "tokenized", tmp_path / "moved")
    prepare(dataset_dir=str(tmp_path / "copy"), tokenized_path=str(tmp_path / "moved"))


@pytest.mark.parametrize("absent", ["pairs.jsonl", "dataset_info.json"])
def test_an_absent_source_is_one_log_line(prepare, folder, caplog, absent):
    prepare(val_size=0.25)
    (folder / absent).unlink()
    logging.getLogger("llamafactory").addHandler(caplog.handler)
    try:
        module, _ = prepare(val_size=0.25)
    finally:
        logging.getLogger("llamafactory").removeHandler(caplog.handler)
    assert len(module["train_dataset"]) + len(module["eval_dataset"]) == 11
    lines = [line for line in caplog.messages if "without comparing the content of data set `pairs`" in line]
    assert len(lines) == 1


def test_another_stage_s_folder_is_refused(load, train, tmp_path):
    path = str(tmp_path / "tokenized")
    train(stage="dpo", dataset="pairs_short", tokenized_path=path, max_steps=1, output_dir=str(tmp_path / "dpo"))
    with pytest.raises(ValueError, match="was not made by `stage: solopo`"):
        load(tokenized_path=path)


def test_a_folder_of_an_earlier_version_is_refused(prepare, tmp_path):
    """It did not keep what its tokens depend on."""
    prepare()
    path = tmp_path / "tokenized" / "solopo.json"
    saved = json.loads(path.read_text())
    del saved["fingerprint"]["version"], saved["fingerprint"]["sources"]
    path.write_text(json.dumps(saved))
    with pytest.raises(
        ValueError, match="by another version of this package, .* cannot be checked: remove the folder"
    ):
        prepare()

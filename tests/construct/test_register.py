"""The entries of dataset_info.json: shipped, written and updated."""

import json

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.register import dataset_entries, register
from tests.helpers.questions import CORPUS, ROOT


def arguments(tmp_path, **changes) -> BuildArguments:
    values = {
        "source": "musique",
        "input": str(CORPUS),
        "output": str(tmp_path / "data" / "mine.jsonl"),
        "tokenizer": "some/folder",
        "template": "qwen",
        "dataset_info": str(tmp_path / "dataset_info.json"),
    }
    return BuildArguments(**values | changes)


def test_shipped_entries():
    expected = {}
    musique = ("musique_qwen", "musique_qwen_heldout", "musique_llama", "musique_llama_heldout")
    for name in (*musique, "two_hop_pairs"):
        expected.update(dataset_entries(name, f"data/{name}.jsonl"))
    assert json.loads((ROOT / "dataset_info.json").read_text()) == expected


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("leases, v2", "leases_v2"),
        ("my leases", "my_leases"),
        ("a,b", "a_b"),
        ("v1.2-b", "v1.2-b"),
        ("th\u00e9\u00e2tre", "th\u00e9\u00e2tre"),
        (" a ", "_a_"),
        ("a=b#c%20", "a_b_c_20"),
    ],
)
def test_the_host_reads_the_name_that_a_file_gives(tmp_path, stem, name):
    """The entry's name is one data set to the host, and its file is found, whatever the file's name holds."""
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments

    args = arguments(tmp_path, output=str(tmp_path / f"{stem}.jsonl"))
    assert args.dataset_name == name
    for entry in register(args, with_held_out=True):
        (read,) = DataArguments(dataset=entry).dataset
        (attributes,) = get_dataset_list([read], str(tmp_path))
        assert attributes.dataset_name in (f"{stem}.jsonl", f"{stem}_heldout.jsonl")


def test_a_new_file_and_an_update_that_leaves_others_alone(tmp_path):
    path = tmp_path / "dataset_info.json"
    assert register(arguments(tmp_path), with_held_out=False) == ["mine", "mine_short", "mine_long"]
    assert json.loads(path.read_text()) == dataset_entries("mine", "data/mine.jsonl")

    others = {"théâtre": {"hf_hub_url": "a/b"}, "mine_short": {"file_name": "data/mine.jsonl"}, "zebra": 3}
    path.write_text(json.dumps(others))
    names = register(arguments(tmp_path, dataset_name="mine"), with_held_out=True)
    assert names[3:] == ["mine_heldout", "mine_heldout_short", "mine_heldout_long"]
    info = json.loads(path.read_text())
    assert list(info)[:3] == list(others) and info["théâtre"] == {"hf_hub_url": "a/b"} and info["zebra"] == 3
    assert info["mine_short"]["file_name"] == "data/mine.jsonl"
    assert info["mine_heldout"]["file_name"] == "data/mine_heldout.jsonl"
    assert [file.name for file in tmp_path.iterdir()] == ["dataset_info.json"]

    register(arguments(tmp_path), with_held_out=False)  # what is left of held-out pairs goes with them
    assert list(json.loads(path.read_text())) == ["théâtre", "mine_short", "zebra", "mine", "mine_long"]


@pytest.mark.parametrize("entry", [{"file_name": "data/other.jsonl"}, {"hf_hub_url": "a/b"}, "odd"])
def test_a_name_of_other_data_is_refused(tmp_path, entry):
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps({"mine_long": entry}))
    with pytest.raises(SolopoError, match="has `mine_long` for other data: write another dataset_name"):
        register(arguments(tmp_path), with_held_out=False)
    assert json.loads(path.read_text()) == {"mine_long": entry}


def test_an_entry_that_is_there_leaves_the_file_as_it_is(tmp_path):
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps(dataset_entries("mine", "data/mine.jsonl")))  # without our indentation
    before = path.read_bytes()
    register(arguments(tmp_path), with_held_out=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_file_is_left_alone(tmp_path, text):
    path = tmp_path / "dataset_info.json"
    path.write_text(text)
    with pytest.raises(SolopoError, match="repair it or name another file"):
        register(arguments(tmp_path), with_held_out=False)
    assert path.read_text() == text

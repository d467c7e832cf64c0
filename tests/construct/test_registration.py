"""The entries of dataset_info.json, shipped and printed."""

import json

from solopo_llamafactory.construct.registration import dataset_entries, registration_lines

from .helpers import ROOT


def test_shipped_entries():
    expected = {}
    for name in ("solopo_demo", "musique_qwen", "musique_llama"):
        expected.update(dataset_entries(name, f"data/{name}.jsonl"))
    assert json.loads((ROOT / "dataset_info.json").read_text()) == expected


def test_registered_and_not(tmp_path):
    info = tmp_path / "dataset_info.json"
    output = tmp_path / "data" / "mine.jsonl"
    sentence, text = registration_lines(str(output), str(info))
    assert "Not registered" in sentence and json.loads(text) == dataset_entries("mine", "data/mine.jsonl")
    info.write_text(json.dumps({"other": "odd", **dataset_entries("named", "data/mine.jsonl")}))
    (sentence,) = registration_lines(str(output), str(info))
    assert "`dataset: named`" in sentence
    info.write_text("{")
    assert "Not registered" in registration_lines(str(output), str(info))[0]

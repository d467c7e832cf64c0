"""Data files of every kind train, whatever types the datasets library would have guessed in them."""

import gzip
import json

import pandas as pd
import pytest

from tests.helpers.runs import make_rows, write_dataset


@pytest.fixture
def load_file(load, tmp_path):
    """Load one file as the data set `pairs`: (kept ids, counts by reason)."""

    def run(name: str, content: bytes, **overrides):
        write_dataset(tmp_path / "data", [])
        info_path = tmp_path / "data" / "dataset_info.json"
        info = json.loads(info_path.read_text())
        info["pairs"]["file_name"] = name
        info_path.write_text(json.dumps(info))
        (tmp_path / "data" / name).write_bytes(content)
        module, reports = load(dataset_dir=str(tmp_path / "data"), **overrides)
        return module["train_dataset"], reports["train"][0].dropped

    return run


ROWS = make_rows(6)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
KINDS = {
    "a.jsonl": LINES,
    "a.json": json.dumps(ROWS, indent=1).encode(),
    "bom.jsonl": b"\xef\xbb\xbf" + LINES,
    "a.jsonl.gz": gzip.compress(LINES),
    "a.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "wrapped.json": json.dumps({"data": ROWS}).encode(),
    "pretty.json": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "a.txt": LINES,
    "a.csv": pd.DataFrame(ROWS).to_csv(index=False).encode(),
    "a.parquet": pd.DataFrame(ROWS).to_parquet(),
    "lines.parquet": LINES,
    "parquet.json": pd.DataFrame(ROWS).to_parquet(),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_tokens(load_file, name):
    train, dropped = load_file(name, KINDS[name])
    plain, _ = load_file("plain.jsonl", LINES)
    assert dropped == {} and train[:] == plain[:]


def test_a_folder_of_files(load, tmp_path):
    write_dataset(tmp_path / "data", [])
    info_path = tmp_path / "data" / "dataset_info.json"
    info = json.loads(info_path.read_text())
    info["pairs"]["file_name"] = "parts"
    info_path.write_text(json.dumps(info))
    parts = tmp_path / "data" / "parts"
    parts.mkdir()
    (parts / "b.jsonl").write_bytes(LINES)
    (parts / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    (parts / ".DS_Store").write_bytes(b"\0\1")
    module, _ = load(dataset_dir=str(tmp_path / "data"))
    assert module["train_dataset"]["id"][:] == [row["id"] for row in ROWS] * 2


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.parquet", pd.DataFrame(ROWS).to_parquet()[:-20], "cannot be read: Parquet magic bytes not found"),
        (
            "a.csv",
            pd.DataFrame([{"chosen": "谁签署了租约"}]).to_csv().encode("gbk"),
            "cannot be read: it is not UTF-8",
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(load_file, name, content, words):
    with pytest.raises(ValueError, match=f"Dataset `pairs` .{name}. {words}"):
        load_file(name, content)


def test_a_copy_of_a_repository(load, tmp_path):
    """A README beside the data is no data, and a folder that holds folders alone says which."""
    write_dataset(tmp_path / "data", [])
    info_path = tmp_path / "data" / "dataset_info.json"
    text = info_path.read_text()
    folder = tmp_path / "data" / "copy" / "data"
    folder.mkdir(parents=True)
    for name in ("copy/README.md", "copy/.gitattributes", "copy/data/README.md"):
        (tmp_path / "data" / name).write_text("# Leases")
    (folder / "train-00000-of-00001.parquet").write_bytes(KINDS["a.parquet"])
    info_path.write_text(text.replace("pairs.jsonl", "copy/data"))
    assert load(dataset_dir=str(tmp_path / "data"))[1]["train"][0].num_kept == 6
    info_path.write_text(text.replace("pairs.jsonl", "copy"))
    with pytest.raises(ValueError, match="is a folder without files of data in itself.*it has the folders data"):
        load(dataset_dir=str(tmp_path / "data"))


@pytest.mark.parametrize(
    "change",
    [
        {"system": "Be short."},  # null for more than 10 MB, text later
        {"meta": {"hops": "two"}},
        {"short_prompt": [{"role": "user", "content": "Which?"}]},
        {"chosen": {"role": "assistant", "content": "amber"}},
        {"chosen": "1960-01-31", "rejected": "1960-02-01"},
    ],
)
def test_a_field_may_change_its_type(load_file, change):
    rows = [{**row, "system": None, "meta": {"hops": 2, "fill": "m" * (2 << 20)}} for row in make_rows(8)]
    rows[7] |= change
    train, dropped = load_file("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    assert dropped == {} and len(train) == 8


def test_rows_without_an_id_are_named_by_file_and_line(load_file):
    rows = make_rows(3)
    for row in rows:
        del row["id"]
    content = "\n\n".join(map(json.dumps, rows)).encode()
    assert load_file("a.jsonl", content)[0]["id"][:] == ["a.jsonl line 1", "a.jsonl line 3", "a.jsonl line 5"]


def test_a_file_written_anew_is_read_anew(load_file):
    """Its table is kept under the hash of its content."""
    assert len(load_file("a.jsonl", LINES, overwrite_cache=False)[0]) == 6
    changed = LINES.replace(b"Which?", b"Where?")
    train, _ = load_file("a.jsonl", changed, overwrite_cache=False)
    assert train["short_prompt_ids"][:] != load_file("a.jsonl", LINES, overwrite_cache=False)[0]["short_prompt_ids"][:]


def test_nothing_unfinished_stays(load_file, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match="line 7 is not JSON"):
        load_file("a.jsonl", LINES + b'{"a": x}\n', cache_dir=str(cache))
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    load_file("a.jsonl", LINES, cache_dir=str(cache))
    assert [path.name for path in (cache / "solopo").rglob("*") if path.is_file()] == ["a.jsonl.parquet"]


def test_a_file_that_is_not_there_says_how_to_make_it(train, tmp_path):
    """As after the install, where a recipe's pairs are still to be built."""
    write_dataset(tmp_path / "data", make_rows(2))
    (tmp_path / "data/pairs.jsonl").unlink()
    with pytest.raises(ValueError, match="pairs.jsonl of dataset `pairs` does not exist: make it by `solopo build`"):
        train(dataset_dir=str(tmp_path / "data"))

"""Files are complete or absent, and a missing step is named."""

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.common.files import atomic_path, atomic_writer, read_json, read_rows, write_json


def test_the_old_file_stays_when_writing_fails(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_writer(path) as file:
        file.write("new")
        raise RuntimeError
    assert [item.name for item in tmp_path.iterdir()] == ["out.jsonl"] and path.read_text() == "old"
    with pytest.raises(SolopoError, match="cannot be written"), atomic_writer(path / "below.jsonl"):
        pass


def test_a_path_to_write_at(tmp_path):
    path = tmp_path / "new" / "out.png"
    with atomic_path(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (path.parent, ".png") and not temporary.exists()
        temporary.write_text("old")
        assert not path.exists()
    for error in (OSError, KeyboardInterrupt):
        with pytest.raises(error), atomic_path(path) as temporary:
            temporary.write_text("new")
            raise error
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass  # nothing was written
    assert [item.name for item in path.parent.iterdir()] == ["out.png"] and path.read_text() == "old"


def test_json(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_json(path, {"é": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "é": 1\n}\n' and read_json(path, "select") == {"é": 1}
    path.write_text("{")
    with pytest.raises(SolopoError, match="is not JSON .* run `solopo select` again"):
        read_json(path, "select")


def test_missing_and_broken_rows(tmp_path):
    with pytest.raises(SolopoError, match="run `solopo sample` with the same YAML first"):
        list(read_rows(tmp_path / "samples.jsonl", "sample"))
    (tmp_path / "samples.jsonl").write_text('{"a": 1}\n{"a"')
    with pytest.raises(SolopoError, match="line 2 is cut off"):
        list(read_rows(tmp_path / "samples.jsonl", "sample"))

"""A disk that is full: one sentence says what cannot be written, and what was written before stays.

A limit on the size of a file takes the place of the disk; for `solopo sample` see sampling/test_answer_file.py.
"""

import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
from datasets import Dataset

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.common.files import atomic_writer
from solopo_llamafactory.data.tokenized import FINGERPRINT_FILE, save_tokenized
from solopo_llamafactory.hooks.checkpoints import last_complete_checkpoint
from solopo_llamafactory.train.reference import ReferenceTable
from tests.helpers.runs import make_rows, read_logs, run_host, write_dataset


@contextmanager
def largest_file(size: int):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_reference_table(tmp_path):
    table = ReferenceTable(tmp_path / "table.safetensors")
    table.logps = {bytes(16): -1.0}
    table.save()
    before = files_below(tmp_path)
    table.logps |= {number.to_bytes(16, "big"): -2.0 for number in range(1000)}
    with largest_file(4096), pytest.raises(ValueError, match="table.safetensors .*make room"):
        table.save()
    assert files_below(tmp_path) == before
    table.save()
    assert len(ReferenceTable.open(table.path).logps) == 1000


def test_a_file_of_the_data_step(tmp_path):
    path = tmp_path / "contexts.jsonl"
    path.write_text("before")
    with largest_file(4096), pytest.raises(SolopoError, match="contexts.jsonl' cannot be written"):
        with atomic_writer(path) as file:
            file.write("x" * 100_000)
    assert files_below(tmp_path) == {"contexts.jsonl": b"before"}


def test_tokenized_data(tmp_path):
    path = tmp_path / "tokenized"
    dataset_module = {"train_dataset": Dataset.from_dict({"chosen_ids": [[1] * 100] * 1000})}
    with largest_file(4096), pytest.raises(ValueError, match="`tokenized_path: .*tokenized` cannot .*make room"):
        save_tokenized(str(path), dataset_module, {}, {})
    assert not list(tmp_path.iterdir())
    save_tokenized(str(path), dataset_module, {}, {})
    assert (path / FINGERPRINT_FILE).is_file()


@pytest.mark.parametrize("changes", [{"overwrite_cache": True}, {"cutoff_len": 500}, {"cache_dir": "new"}])
def test_the_data_librarys_own_cache(changes, arguments, tmp_path, monkeypatch):
    """Made anew, for other settings, or elsewhere: what is cached and the last output stay, and with room the run works."""
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data", make_rows(200))
    cache, output = tmp_path / "cache", tmp_path / "output"
    args = arguments(
        dataset_dir=str(tmp_path / "data"), cache_dir=str(cache), overwrite_cache=False, overwrite_output_dir=True
    )
    run_host(args)
    losses = [log["loss"] for log in read_logs(args["output_dir"])]
    before = {folder: files_below(folder) for folder in (cache, output)}
    cached = {name: len(content) for name, content in before[cache].items() if name.endswith(".arrow")}
    assert len(cached) == 3 and min(cached.values()) > 100_000  # as read, as converted, as tokenized
    # Less would be too little for what pytest keeps of the runs' words.
    with largest_file(100_000), pytest.raises(ValueError) as error:
        run_host(args | changes)
    where = changes.get("cache_dir", str(cache))
    assert str(error.value) == (
        f"The data library's cache cannot be written to {where} ([Errno 27] File too large): make room, or set "
        "`cache_dir` to a folder on another disk."
    )
    after = {folder: files_below(folder) for folder in (cache, output)}
    assert after[output] == before[output] and after[cache].items() >= before[cache].items()
    assert {name for name in after[cache] if name.endswith(".arrow")} == set(cached)
    run_host(args | changes)
    assert [log["loss"] for log in read_logs(args["output_dir"])] == losses


@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.pt"])
def test_a_checkpoint(part, arguments, tmp_path):
    """The second one does not fit: the first stays, and with room the run goes on to the losses of one undisturbed."""
    common = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "lr_scheduler_type": "constant"}
    whole = arguments(output_dir=str(tmp_path / "whole"), **common)
    run_host(whole)
    size = (tmp_path / "whole" / "checkpoint-1" / part).stat().st_size

    args = arguments(output_dir=str(tmp_path / "full"), **common)
    run_host({**args, "max_steps": 1})
    before = files_below(tmp_path / "full" / "checkpoint-1")
    with largest_file(size // 2), pytest.raises(RuntimeError, match="checkpoint of step 2 cannot be written") as error:
        run_host(args)
    assert "\n" not in str(error.value)
    assert files_below(tmp_path / "full" / "checkpoint-1") == before
    assert last_complete_checkpoint(args["output_dir"]).endswith("checkpoint-1")
    run_host(args)
    losses = [[log["loss"] for log in read_logs(each["output_dir"])] for each in (args, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_trained_model(arguments, tmp_path):
    args = arguments(output_dir=str(tmp_path / "full"), overwrite_output_dir=True)
    run_host(args)
    size = (tmp_path / "full" / "model.safetensors").stat().st_size
    with (
        largest_file(size // 2),
        pytest.raises(RuntimeError, match="^The trained model cannot be written to") as error,
    ):
        run_host(args)
    assert "\n" not in str(error.value)

"""The file of samples: which ones are taken again, and what a kill, a full disk or a second run leaves of it."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from solopo_llamafactory.common.errors import SolopoError
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.sampling import answer_file
from solopo_llamafactory.sampling.answer_file import Settings, read_samples
from solopo_llamafactory.sampling.base import Sample
from tests.helpers.questions import CORPUS, write_lines
from tests.helpers.sampling import (
    FakeSampler,
    arguments,
    context,
    finished,
    ids,
    is_enough,
    question,
    sample,
    write_contexts,
)


@pytest.mark.parametrize(
    "torn",
    [b'{"id": "q2", "settings": "abc", "sam', '{"id": "q2", "text": "é'.encode()[:-1], b'{"id": "q2"}', b'{"id": \n'],
)
def test_a_torn_last_line_is_cut_off_and_sampled_again(tmp_path, capsys, torn):
    args = arguments(tmp_path)
    write_contexts(args, 4)
    sample(args, FakeSampler(), is_enough, wanted=1)
    whole = args.samples_path.read_bytes()
    lines = whole.splitlines(keepends=True)
    args.samples_path.write_bytes(b"".join(lines[:2]) + torn)
    sampler = FakeSampler()
    sample(args, sampler, is_enough, wanted=1)
    assert sampler.asked == ["q2", "q3"] and args.samples_path.read_bytes() == whole
    assert "the last line was torn" in capsys.readouterr().err


@pytest.mark.parametrize(
    "broken", ["{", "[1]", "null", '{"id": "q1"}', '{"id": "q1", "settings": "a", "samples": [{}]}']
)
def test_a_broken_line_elsewhere_is_named_and_nothing_is_changed(tmp_path, broken):
    args = arguments(tmp_path)
    write_contexts(args, 4)
    sample(args, FakeSampler(), is_enough, wanted=1)
    lines = args.samples_path.read_text().splitlines()
    lines[1] = broken
    args.samples_path.write_text("\n".join(lines) + "\n")
    before = args.samples_path.read_bytes()
    with pytest.raises(SolopoError, match="samples.jsonl' line 2 is no row of samples"):
        sample(args, FakeSampler(), is_enough, wanted=1)
    assert args.samples_path.read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 43},
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"n": 3},
        {"max_new_tokens": 100},
        {"model_name_or_path": "another/model"},
        {"adapter_name_or_path": "an/adapter"},
        {"template": "llama3"},
        {"engine_args": {"top_k": 50}},
        {"samples_per_call": 4},
        {"batch_size": 2},
        {"infer_backend": "vllm"},
    ],
)
def test_a_file_of_other_settings_is_refused(tmp_path, changes):
    args = arguments(tmp_path)
    write_contexts(args, 2)
    sample(args, FakeSampler(), is_enough, wanted=1)
    with pytest.raises(SolopoError, match="line 1 was made with other settings.*delete the file"):
        sample(arguments(tmp_path, **changes), FakeSampler(), is_enough, wanted=1)


@pytest.mark.parametrize("key", ["model_name_or_path", "adapter_name_or_path"])
def test_a_model_that_was_trained_anew_in_its_folder_is_another_one(tmp_path, key):
    weights = tmp_path / "trained" / "adapter_model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"old")
    args = arguments(tmp_path, **{key: str(weights.parent)})
    write_contexts(args, 2)
    sample(args, FakeSampler(), is_enough, wanted=1)
    assert sample(args, FakeSampler(), is_enough, wanted=1).finished
    weights.write_bytes(b"another")
    with pytest.raises(SolopoError, match="line 1 was made with other settings"):
        sample(args, FakeSampler(), is_enough, wanted=1)


def test_a_changed_prompt_is_refused(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 2)
    sample(args, FakeSampler(), is_enough, wanted=1)
    write_lines(args.contexts_path, context(0), context(1, short_prompt="Another?"))
    with pytest.raises(SolopoError, match="line 2 was made with other settings"):
        sample(args, FakeSampler(), is_enough, wanted=1)


def test_a_server_may_move_and_be_asked_otherwise(tmp_path):
    server = {"infer_backend": "openai", "base_url": "http://one:1/v1"}
    args = arguments(tmp_path, **server)
    write_contexts(args, 2)
    sample(args, FakeSampler(), is_enough, wanted=1)
    again = {"base_url": "http://two:2/v1", "concurrency": 3, "timeout": 5, "max_retries": 0, "samples_per_call": 1}
    sampler = FakeSampler()
    sample(arguments(tmp_path, **{**server, **again}), sampler, is_enough, wanted=1)
    assert sampler.asked == []


def test_settings_of_judging_and_selection_ask_nothing_again(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 2)
    sample(args, FakeSampler(), is_enough)
    sampler = FakeSampler()
    sample(
        arguments(tmp_path, thought_words=["<a>", "</a>"], remove_thoughts=True, policy="shortest"), sampler, is_enough
    )
    assert sampler.asked == []


def test_a_file_of_an_earlier_version_is_refused_in_a_sentence(tmp_path, monkeypatch):
    args = arguments(tmp_path)
    write_contexts(args, 2)
    with monkeypatch.context() as earlier:
        earlier.setattr(answer_file, "NEUTRAL", {})
        sample(args, FakeSampler(), is_enough)
    with pytest.raises(SolopoError, match="or by an earlier version, which let a server's .* defaults in: delete the"):
        sample(args, FakeSampler(), is_enough)


def test_rows_that_an_earlier_version_wrote_are_taken(tmp_path):
    """With the settings' digest of that version, and with log-probs beside each sample."""
    server = {"infer_backend": "openai", "base_url": "http://one:1/v1"}
    args = arguments(tmp_path, **server)
    write_contexts(args, 1)
    samples = [{"text": "Esk", "finish": "stop", "logp": None}, {"text": "Orm", "finish": "length", "logp": -0.5}]
    write_lines(args.samples_path, {"id": "q0", "settings": "f007dc6cc65a859f", "samples": samples})
    assert sample(args, FakeSampler(), is_enough, wanted=1).usable == 1
    assert list(read_samples(args, args.samples_path, {"q0": question(0)})) == [
        ("q0", [Sample("Esk", "stop"), Sample("Orm", "length")])
    ]
    assert Settings(arguments(tmp_path))(question(0)) == "3a616d03baa6c77b"


def test_rows_of_an_earlier_synthesis_stay_and_are_ignored(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 3)
    sample(args, FakeSampler(usable=["q0"]), is_enough, wanted=9)
    before = args.samples_path.read_bytes()
    write_lines(args.contexts_path, context(2), context(7))
    sampler = FakeSampler()
    counts = sample(args, sampler, is_enough, wanted=1)
    assert sampler.asked == ["q7"] and (counts.questions, counts.finished, counts.usable) == (2, 2, 0)
    assert args.samples_path.read_bytes().startswith(before)


def test_a_second_run_at_the_same_time_is_refused(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 2)
    with open(args.samples_path, "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SolopoError, match="another run writes to '.*samples.jsonl'"):
            sample(args, FakeSampler(), is_enough, wanted=1)
    sample(args, FakeSampler(), is_enough, wanted=1)


def test_a_full_disk_is_named_and_the_next_run_continues(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 9)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(SolopoError, match="samples.jsonl' cannot be written .*make room"):
            run_slowly(str(tmp_path), "0", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run_slowly(str(tmp_path), "0", "1")
    assert ids(args) == [f"q{i}" for i in range(9)]


def run_slowly(folder: str, seconds: str, workers: str) -> None:
    """What the killed process runs."""

    class Slow(FakeSampler):
        def __call__(self, row):
            time.sleep(float(seconds))
            return [Sample(f"{row['id']} " + "long answer " * 2000, "stop")]

    sample(arguments(Path(folder)), Slow(workers=int(workers)), lambda row, samples: False, wanted=1)


def start_slowly(tmp_path, seconds: float, workers: int) -> subprocess.Popen:
    code = f"from tests.sampling.test_answer_file import run_slowly as run; run({str(tmp_path)!r}, '{seconds}', '{workers}')"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=CORPUS.parents[1], stderr=subprocess.PIPE, start_new_session=True
    )


def wait_for_rows(args: BuildArguments, count: int) -> None:
    deadline = time.monotonic() + 60
    while not (args.samples_path.exists() and args.samples_path.read_bytes().count(b"\n") >= count):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 4])
def test_kill_9_loses_only_what_was_under_way(tmp_path, workers):
    args = arguments(tmp_path)
    write_contexts(args, 60)
    for round in range(1, 4):
        process = start_slowly(tmp_path, 0.03, workers)
        wait_for_rows(args, 10 * round)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
    kept = args.samples_path.read_bytes()
    run_slowly(str(tmp_path), "0", str(workers))
    assert args.samples_path.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    assert sorted(ids(args)) == sorted(f"q{i}" for i in range(60))
    assert all(len(row["samples"][0]["text"]) > 24_000 for row in finished(args))
    assert ids(args) == [f"q{i}" for i in range(60)] or workers > 1


@pytest.mark.parametrize("workers", [1, 4])
def test_ctrl_c_ends_promptly_and_keeps_what_is_finished(tmp_path, workers):
    args = arguments(tmp_path)
    write_contexts(args, 60)
    sample(args, FakeSampler(usable=["q3"]), is_enough, wanted=1)
    process = start_slowly(tmp_path, 50, workers)
    assert any(b"sampling" in line for line in iter(process.stderr.read1, b""))  # the bar is shown
    time.sleep(0.3)
    assert process.poll() is None
    start = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    process.wait(timeout=20)
    process.stderr.close()
    assert time.monotonic() - start < 10 and ids(args) == ["q0", "q1", "q2", "q3"]

"""The sampling step: what is asked, what is kept when a run is killed, and what a restart does."""

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

from solopo_llamafactory.common.errors import Skip, SolopoError
from solopo_llamafactory.construct.arguments import BuildArguments
from solopo_llamafactory.construct.synthesize import read_contexts
from solopo_llamafactory.sampling import answer_file, loop
from solopo_llamafactory.sampling.answer_file import Settings, read_samples
from solopo_llamafactory.sampling.base import Sample, SampleError, seed_of
from solopo_llamafactory.sampling.loop import Counts
from solopo_llamafactory.sampling.marks import Marks
from tests.helpers.questions import CORPUS, write_lines


def arguments(tmp_path, **changes) -> BuildArguments:
    values = {"source": "musique", "input": str(CORPUS), "tokenizer": "some/model", "template": "qwen", "n": 2}
    return BuildArguments(**{**values, "output": str(tmp_path / "pairs.jsonl"), **changes})


def context(number: int, **changes) -> dict:
    row = {"id": f"q{number}", "answers": ["Esk"], "short_prompt": f"Where is {number}?", "long_prompt": "long"}
    return {**row, **changes}


def question(number: int, **changes) -> dict:
    """That row as samplers see it."""
    return {"id": f"q{number}", "answers": ["Esk"], "prompt": f"Where is {number}?", **changes}


def sample(args: BuildArguments, sampler, *enough, **options) -> Counts:
    """Sampling as the builder does it."""
    return loop.sample(args, list(read_contexts(args)), args.samples_path, sampler, *enough, **options)


def write_contexts(args: BuildArguments, count: int) -> list[dict]:
    args.folder.mkdir(exist_ok=True)
    write_lines(args.contexts_path, *(context(number) for number in range(count)))
    return [question(number) for number in range(count)]


class FakeSampler:
    """Answers at once; ids in `usable` get a right and a wrong answer, those in `failing` none."""

    def __init__(self, usable=(), failing=(), workers: int = 1) -> None:
        self.usable, self.failing, self.workers = set(usable), set(failing), workers
        self.asked: list[str] = []

    def __call__(self, row: dict) -> list[Sample]:
        self.asked.append(row["id"])
        if row["id"] in self.failing:
            raise SampleError(f"{row['id']} is too long")
        return [Sample("Esk", "stop"), Sample("Orm" if row["id"] in self.usable else "Esk", "stop")]


def is_enough(row: dict, samples: list[Sample]) -> bool:
    return len({each.text in row["answers"] for each in samples}) == 2


def finished(args: BuildArguments) -> list[dict]:
    return [json.loads(line) for line in args.samples_path.read_bytes().splitlines()]


def ids(args: BuildArguments) -> list[str]:
    return [row["id"] for row in finished(args)]


def test_rows_come_in_file_order_until_enough_are_usable(tmp_path, capsys):
    args = arguments(tmp_path)
    rows = write_contexts(args, 8)
    sampler = FakeSampler(usable=["q1", "q3", "q4"])
    counts = sample(args, sampler, is_enough, wanted=2)
    assert sampler.asked == ids(args) == ["q0", "q1", "q2", "q3"]
    assert (counts.questions, counts.finished, counts.usable, counts.sampled, counts.failed) == (8, 4, 2, 4, 0)
    assert finished(args)[1] == {
        "id": "q1",
        "settings": Settings(args)(rows[1]),
        "samples": [
            {"text": "Esk", "finish": "stop"},
            {"text": "Orm", "finish": "stop"},
        ],
    }
    assert "usable=2/2" in capsys.readouterr().err


def test_a_second_run_counts_what_is_there_and_asks_only_for_the_rest(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 6)
    sample(args, FakeSampler(usable=["q1"]), is_enough, wanted=1)
    before = args.samples_path.read_bytes()
    again = FakeSampler()
    counts = sample(args, again, is_enough, wanted=1)
    assert again.asked == [] and args.samples_path.read_bytes() == before and counts.usable == 1
    more = FakeSampler(usable=["q5"])
    counts = sample(args, more, is_enough, wanted=2)
    assert more.asked == ["q2", "q3", "q4", "q5"] and counts.usable == 2
    assert args.samples_path.read_bytes().startswith(before)


def test_too_few_usable_questions_end_with_the_file(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 3)
    counts = sample(args, FakeSampler(), is_enough, wanted=2)
    assert (counts.finished, counts.usable) == (3, 0)


def test_a_sampler_sees_no_long_prompt_and_text_survives(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 1)
    seen = []

    class Sampler:
        workers = 1

        def __call__(self, row):
            seen.append(row)
            return [Sample("zwei\nZeilen\u2028é 💡 \ud83d", "length")]

    sample(args, Sampler(), is_enough, wanted=1)
    assert seen == [question(0)]
    assert finished(args)[0]["samples"] == [{"text": "zwei\nZeilen\u2028é 💡 ?", "finish": "length"}]


def test_workers_ask_in_parallel_and_no_more_than_allowed(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 20)
    lock, active, peak = threading.Lock(), [], []

    class Slow(FakeSampler):
        def __call__(self, row):
            with lock:
                active.append(row["id"])
                peak.append(len(active))
            time.sleep(0.02)
            with lock:
                active.remove(row["id"])
            return super().__call__(row)

    counts = sample(args, Slow(workers=4), is_enough, wanted=1)
    assert max(peak) == 4 and counts.finished == 20 and sorted(ids(args)) == sorted(f"q{i}" for i in range(20))


def test_an_unanswered_request_does_not_hold_up_the_end(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 4)

    class Hanging(FakeSampler):
        def __call__(self, row):
            if row["id"] == "q0":
                threading.Event().wait(60)
            return super().__call__(row)

    start = time.monotonic()
    sample(args, Hanging(usable=["q2"], workers=2), is_enough, wanted=1)
    assert ids(args) == ["q1", "q2"] and time.monotonic() - start < 20


@pytest.mark.parametrize("workers", [1, 3])
def test_failed_questions_are_left_out_and_asked_again(tmp_path, capsys, workers):
    args = arguments(tmp_path)
    write_contexts(args, 8)
    counts = sample(args, FakeSampler(failing=["q2", "q5"], workers=workers), is_enough, wanted=1)
    assert (counts.failed, counts.finished) == (2, 6) and not {"q2", "q5"} & set(ids(args))
    assert "2 questions got no answer" in capsys.readouterr().err
    again = FakeSampler()
    counts = sample(args, again, is_enough, wanted=1)
    assert again.asked == ["q2", "q5"] and (counts.failed, counts.finished) == (0, 8)


@pytest.mark.parametrize("workers", [1, 3])
def test_five_failures_in_a_row_end_the_run(tmp_path, workers):
    args = arguments(tmp_path)
    write_contexts(args, 40)
    sampler = FakeSampler(failing=[f"q{i}" for i in range(6, 40)], workers=workers)
    with pytest.raises(SolopoError, match="in a row .*is too long.*the same command continues") as caught:
        sample(args, sampler, is_enough, wanted=1)
    assert "\n" not in str(caught.value)
    assert sorted(ids(args)) == [f"q{i}" for i in range(6)]
    assert len(sampler.asked) <= 6 + 5 + workers


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("error", [SolopoError("no server"), RuntimeError("a bug")])
def test_other_errors_end_the_run_at_once(tmp_path, error, workers):
    args = arguments(tmp_path)
    write_contexts(args, 8)

    class Breaking(FakeSampler):
        def __call__(self, row):
            if row["id"] == "q3":
                raise error
            return super().__call__(row)

    with pytest.raises(type(error), match=str(error)):
        sample(args, Breaking(workers=workers), is_enough, wanted=1)
    assert {"q0", "q1"} <= set(ids(args)) if workers == 1 else len(ids(args)) < 8


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


class SilentSampler(FakeSampler):
    """Says nothing in the first questions; or thinks and never ends."""

    def __init__(self, silent: int, text: str = "", **options) -> None:
        super().__init__(**options)
        self.silent, self.text = silent, text

    def __call__(self, row: dict) -> list[Sample]:
        answered = super().__call__(row)
        return [Sample(self.text, "length")] * len(answered) if len(self.asked) <= self.silent else answered


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "20 empty"), ("  ", "20 empty"), ("<think>so", "20 thoughts without an end"), ("a", "20 cut off")],
)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_model_that_says_nothing_is_not_asked_to_the_end(tmp_path, text, found, workers):
    """What it said is not kept: once the server is mended, the same command asks from the start."""
    args = arguments(tmp_path)
    write_contexts(args, 60)
    sampler = SilentSampler(99, text, workers=workers)
    with pytest.raises(
        SolopoError, match=rf"none of the first 20 answers can be used \({found}\): raise max_new_tokens"
    ):
        sample(args, sampler, is_enough, None, lambda each: Marks().read(each.text, each.finish).problem)
    assert len(sampler.asked) < 20 and args.samples_path.read_bytes() == b""
    assert sample(args, FakeSampler(), is_enough).finished == 60


@pytest.mark.parametrize("silent", [1, 9])
def test_empty_answers_before_others_are_kept(tmp_path, silent):
    args = arguments(tmp_path)
    write_contexts(args, 12)
    assert sample(args, SilentSampler(silent), is_enough).finished == 12
    assert ids(args) == [f"q{i}" for i in range(12)]
    assert [row["samples"][0]["text"] == "" for row in finished(args)] == [i < silent for i in range(12)]
    few = arguments(tmp_path, output=str(tmp_path / "few.jsonl"))
    write_contexts(few, 3)
    assert sample(few, SilentSampler(99), is_enough).finished == len(ids(few)) == 3


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


def test_missing_contexts_are_named(tmp_path):
    with pytest.raises(SolopoError, match="contexts.jsonl' is missing: run `solopo synthesize`"):
        sample(arguments(tmp_path), FakeSampler(), is_enough, wanted=1)
    assert list(tmp_path.iterdir()) == []


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


def test_rows_that_need_not_be_asked_are_no_failures(tmp_path, capsys):
    args = arguments(tmp_path)
    write_contexts(args, 12)

    class Skipping(FakeSampler):
        def __call__(self, row):
            if row["id"] != "q11":
                raise Skip("beyond")
            return super().__call__(row)

    counts = sample(args, Skipping())
    assert (counts.finished, counts.failed) == (1, 0) and ids(args) == ["q11"]
    assert "12/12" in capsys.readouterr().err


def test_seeds_differ_by_question_group_and_seed(tmp_path):
    args, other = arguments(tmp_path), arguments(tmp_path, seed=43)
    seeds = [seed_of(args, question(0), 0), seed_of(args, question(0), 8), seed_of(args, question(1), 0)]
    assert len({*seeds, seed_of(other, question(0), 0)}) == 4 and all(0 <= seed < 2**31 for seed in seeds)
    assert seeds[0] == 807334001  # the same in every process and version


def run_slowly(folder: str, seconds: str, workers: str) -> None:
    """What the killed process runs."""
    from pathlib import Path

    class Slow(FakeSampler):
        def __call__(self, row):
            time.sleep(float(seconds))
            return [Sample(f"{row['id']} " + "long answer " * 2000, "stop")]

    sample(arguments(Path(folder)), Slow(workers=int(workers)), lambda row, samples: False, wanted=1)


def start_slowly(tmp_path, seconds: float, workers: int) -> subprocess.Popen:
    code = f"from tests.sampling.test_loop import run_slowly as run; run({str(tmp_path)!r}, '{seconds}', '{workers}')"
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


def test_more_failures_than_the_limit_apart_from_each_other_are_fine(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 20)
    counts = sample(args, FakeSampler(failing=[f"q{i}" for i in range(0, 20, 2)]), is_enough, wanted=1)
    assert counts.failed == 10 > loop.MOST_FAILURES and counts.finished == 10

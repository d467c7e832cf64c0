"""The sampling step: who is asked, beside whom, and when it stops."""

import threading
import time

import pytest

from solopo_llamafactory.common.errors import Skip, SolopoError
from solopo_llamafactory.sampling import loop
from solopo_llamafactory.sampling.answer_file import Settings
from solopo_llamafactory.sampling.base import Sample
from solopo_llamafactory.sampling.marks import Marks
from tests.helpers.sampling import (
    FakeSampler,
    arguments,
    finished,
    ids,
    is_enough,
    question,
    sample,
    write_contexts,
)


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


def test_missing_contexts_are_named(tmp_path):
    with pytest.raises(SolopoError, match="contexts.jsonl' is missing: run `solopo synthesize`"):
        sample(arguments(tmp_path), FakeSampler(), is_enough, wanted=1)
    assert list(tmp_path.iterdir()) == []


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


def test_more_failures_than_the_limit_apart_from_each_other_are_fine(tmp_path):
    args = arguments(tmp_path)
    write_contexts(args, 20)
    counts = sample(args, FakeSampler(failing=[f"q{i}" for i in range(0, 20, 2)]), is_enough, wanted=1)
    assert counts.failed == 10 > loop.MOST_FAILURES and counts.finished == 10

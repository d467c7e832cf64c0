"""Answers of a model to one prompt after another, in a file that only grows: `solopo sample` and `solopo eval`.

A row has an `id` and a `prompt`. A sampler is a callable that takes a row and returns its samples; its attribute `workers`
says how many calls may be under way at a time. What it needs, such as a model, it loads at its first question, so that a
finished file costs nothing to go through again.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from ..common.errors import Skip, SolopoError
from .answer_file import AnswerFile, open_answers
from .arguments import SamplingArguments
from .base import Sample, SampleError, Sampler
from .marks import EMPTY, advice


MOST_FAILURES = 5  # questions in a row
MOST_USELESS = 20  # first samples, of MOST_FAILURES questions or more


@dataclass
class Counts:
    """All questions, those with samples and those that are enough, and this run's new and failed ones."""

    questions: int
    finished: int = 0
    usable: int = 0
    sampled: int = 0
    failed: int = 0


def sample(
    args: SamplingArguments,
    rows: Sequence[dict],
    path: Path,
    sampler: Sampler,
    gain: Callable[[dict, list[Sample]], int] = lambda row, samples: 0,
    wanted: int | None = None,
    problem: Callable[[Sample], str | None] = lambda sample: None if sample.text.strip() else EMPTY,
    size: Callable[[dict], int] = lambda row: 1,
    **bar,
) -> Counts:
    """Samples one question after another until they give what is `wanted`. Killed at any time, it can be run again.

    Args:
        path: the file of samples, which is appended to.
        gain: how much of what the next step needs a row with these samples gives.
        wanted: how much in all; all rows are asked without it.
        problem: why a sample is of no use. When that is so of all the first ones, sampling stops.
        size: what a row adds to the progress bar.
        bar: further arguments of the bar.

    Raises:
        SolopoError: for a file of other settings, a broken one, one in use, or a model that does not answer.
    """
    by_id = {row["id"]: row for row in rows}
    counts = Counts(len(by_id))
    useless = Useless(problem)
    with open_answers(args, path) as file:
        unasked = dict(by_id)
        for id, samples in file.finished(by_id):
            unasked.pop(id, None)
            counts.usable += gain(by_id[id], samples)
            useless.ended_by(samples)
        counts.finished = len(by_id) - len(unasked)
        if unasked and (wanted is None or counts.usable < wanted):
            from tqdm import tqdm

            done = sum(map(size, rows)) - sum(map(size, unasked.values()))
            bar = {"desc": "sampling", "unit": "question", "dynamic_ncols": True, **bar}
            with tqdm(total=sum(map(size, rows)), initial=done, **bar) as progress:
                stream = getattr(sampler, "stream", None)
                asked = stream(rows, dict(unasked)) if stream else None
                asked = asked or _asked(sampler, _batches(args, rows, unasked))
                answers = ((row, result) for row, result in asked if row["id"] in unasked)
                _append_answers(file, answers, gain, wanted, useless, counts, progress, size)
    return counts


def _batches(args: SamplingArguments, rows: Sequence[dict], unasked: dict[str, dict]) -> Iterator[Sequence[dict]]:
    """What is asked together. A batch is whole though a part of it is finished, so that a killed run changes no answer."""
    size = (args.batch_size or 1) if args.infer_backend == "huggingface" else 1
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        if any(row["id"] in unasked for row in batch):
            yield batch


def _append_answers(
    file: AnswerFile,
    answers: Iterable[tuple[dict, list[Sample] | Exception]],
    gain: Callable[[dict, list[Sample]], int],
    wanted: int | None,
    useless: "Useless",
    counts: Counts,
    progress: Any,
    size: Callable[[dict], int],
) -> None:
    """Appends answers until they give enough; gives up when many in a row fail."""
    in_a_row = 0
    error: SampleError | None = None
    for row, result in answers:
        if isinstance(result, SampleError):
            error = result
            counts.failed += 1
            in_a_row += 1
            if in_a_row == MOST_FAILURES:
                raise SolopoError(
                    f"{MOST_FAILURES} questions in a row got no answer, the last one because of: {error}; what is "
                    f"finished is kept in '{file.path}' and the same command continues."
                )
        elif isinstance(result, Skip):
            progress.update(size(row))
        elif isinstance(result, Exception):
            raise result
        else:
            for each in useless.passed(row, result):
                file.append(*each)
            in_a_row = 0
            counts.sampled += 1
            counts.finished += 1
            counts.usable += gain(row, result)
            progress.update(size(row))
        usable = {} if wanted is None else {"usable": f"{counts.usable}/{wanted}"}
        progress.set_postfix(**usable, failed=counts.failed, refresh=False)
        if wanted is not None and counts.usable >= wanted:
            break
    for each in useless.held:
        file.append(*each)
    if error is not None:
        print(
            f"{counts.failed} questions got no answer, the last of them because of: {error}; the same command asks "
            "them again.",
            file=sys.stderr,
        )


class Useless:
    """Holds rows back as long as no sample is of use, and ends sampling before all of it is paid for.

    What is held back is asked again once the cause is mended.
    """

    def __init__(self, problem: Callable[[Sample], str | None]) -> None:
        self.held: list[tuple[dict, list[Sample]]] = []
        self._problem = problem
        self._ended = False

    def ended_by(self, samples: Sequence[Sample]) -> bool:
        """Whether any sample so far, these included, is of use."""
        self._ended = self._ended or any(self._problem(each) is None for each in samples)
        return self._ended

    def passed(self, row: dict, samples: list[Sample]) -> list[tuple[dict, list[Sample]]]:
        """The rows with their samples to write now, this one last.

        Raises:
            SolopoError: when there have been many and none is of use.
        """
        self.held.append((row, samples))
        if self.ended_by(samples):
            passed, self.held = self.held, []
            return passed
        problems = Counter(self._problem(each) for _, held in self.held for each in held)
        if problems.total() >= MOST_USELESS and len(self.held) >= MOST_FAILURES:
            found = ", ".join(f"{count} {name}" for name, count in problems.most_common())
            raise SolopoError(
                f"none of the first {problems.total()} answers can be used ({found}): {advice(problems)}; then run the same "
                "command, which asks these questions again."
            )
        return []


def _asked(sampler: Sampler, batches: Iterable[Sequence[dict]]) -> Iterator[tuple[dict, list[Sample] | Exception]]:
    """Asks up to `sampler.workers` batches at a time and yields each row with what came back."""

    def ask(batch: Sequence[dict]) -> list[tuple[dict, list[Sample] | Exception]]:
        try:
            results = [sampler(batch[0])] if len(batch) == 1 else sampler.together(batch)
        except Exception as error:
            results = [error] * len(batch)
        return list(zip(batch, results))

    if sampler.workers == 1:
        for batch in batches:
            yield from ask(batch)
        return
    batches = iter(batches)
    done: SimpleQueue = SimpleQueue()
    under_way = 0
    while True:
        for batch in islice(batches, sampler.workers - under_way):
            # Python waits at its end for the threads of a pool; daemons are left to their unanswered requests.
            Thread(target=lambda batch=batch: done.put(ask(batch)), daemon=True).start()
            under_way += 1
        if not under_way:
            return
        yield from done.get()
        under_way -= 1

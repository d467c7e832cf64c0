"""`solopo sample`: answers to each question on its short context, in a file that only grows.

A sampler is a callable that takes a row of contexts.jsonl (without its long prompt) and returns the samples of that
question; its attribute `workers` says how many rows it may work on at a time. What it needs, such as a model, it loads at
its first question, so that a finished file costs nothing to go through again.
"""

import dataclasses
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO, Protocol

from .arguments import BuildArguments
from .errors import ConstructError
from .files import missing, read_rows


# What decides a question's samples, beside its prompt. The server's address and its patience do not.
SHAPING = (
    "infer_backend",
    "model_name_or_path",
    "adapter_name_or_path",
    "engine_args",
    "template",
    "temperature",
    "top_p",
    "max_new_tokens",
    "n",
    "seed",
)
MOST_FAILURES = 5  # questions in a row


@dataclass(frozen=True)
class Sample:
    """One answer: how it ended (`stop`, or `length` where it was cut off) and its tokens' mean log-prob, if known."""

    text: str
    finish: str
    logp: float | None = None


class SampleError(Exception):
    """Leaves one question without samples for this run; the next run asks it again."""


class Sampler(Protocol):
    """What asks a model."""

    workers: int  # rows that may be asked at a time

    def __call__(self, row: dict) -> list[Sample]:
        """Returns the samples of one question, or raises `SampleError`."""


@dataclass
class Counts:
    """Questions in contexts.jsonl, those with samples and those that are enough, and this run's new and failed ones."""

    questions: int
    finished: int = 0
    usable: int = 0
    sampled: int = 0
    failed: int = 0


def sample(
    args: BuildArguments, sampler: Sampler, is_enough: Callable[[dict, list[Sample]], bool], wanted: int
) -> Counts:
    """Samples one question after another until `wanted` of them are enough. Killed at any time, it can be run again.

    Args:
        is_enough: whether a row of contexts.jsonl with these samples is what the next step needs.

    Raises:
        ConstructError: for a file of other settings, a broken one, one in use, or a model that does not answer.
    """
    rows = {row["id"]: row for row in read_contexts(args)}
    counts = Counts(len(rows))
    with _opened(args.samples_path) as file:
        unasked = dict(rows)
        for id, samples in _read_finished(args, file, rows):
            unasked.pop(id, None)
            counts.usable += is_enough(rows[id], samples)
        counts.finished = len(rows) - len(unasked)
        if counts.usable < wanted:
            _sample_missing(args, sampler, is_enough, wanted, list(unasked.values()), file, counts)
    return counts


def settings(args: BuildArguments, row: dict) -> str:
    """Digest of all that shapes the samples of a row."""
    shaping = {key: getattr(args, key) for key in SHAPING}
    if args.infer_backend == "huggingface":  # each group has its own seed
        shaping["samples_per_call"] = args.samples_per_call
    text = json.dumps([shaping, row["short_prompt"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def seed_of(args: BuildArguments, row: dict, index: int) -> int:
    """Seed (31 bits) of the samples that are asked for together, `index` being the first one's."""
    digest = hashlib.sha256(f"{args.seed}|{row['id']}|{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def reason(error: BaseException) -> str:
    """An error and its cause on one line; many a client's own words say little."""
    said = [hide_key(" ".join(str(each).split())) for each in (error, error.__cause__) if each is not None]
    return ": ".join(filter(None, said))[:300] or type(error).__name__


def hide_key(text: str) -> str:
    """Some servers repeat a key that they refuse; it must not get into logs."""
    key = os.environ.get("OPENAI_API_KEY")
    return text.replace(key, "OPENAI_API_KEY") if key else text


def read_contexts(args: BuildArguments) -> Iterator[dict]:
    """The rows of contexts.jsonl without their long prompts."""
    for row in read_rows(args.contexts_path, "synthesize"):
        row.pop("long_prompt", None)  # by far the largest part
        yield row


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file for reading and appending, locked against other runs."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConstructError(
                    f"another run writes to '{path}': wait for its end or stop it, then run this command again."
                ) from None
            yield file
    except PermissionError as error:
        raise ConstructError(f"'{path}' cannot be written ({error}): give another output.") from None


def read_samples(args: BuildArguments, rows: dict[str, dict]) -> Iterator[tuple[str, list[Sample]]]:
    """The finished questions among `rows`, for the steps after sampling.

    Raises:
        ConstructError: for a file that is missing, torn or of other settings.
    """
    path = args.samples_path
    if not path.is_file():
        raise missing(path, "sample")
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                raise ConstructError(f"'{path}' line {number} is torn: run `solopo sample` with the same YAML again.")
            yield from _parse(args, line, number, rows)


def _read_finished(args: BuildArguments, file: BinaryIO, rows: dict[str, dict]) -> Iterator[tuple[str, list[Sample]]]:
    """Yields the finished questions among `rows`; a last line that a killed run left torn is cut off."""
    path = args.samples_path
    size, end = os.fstat(file.fileno()).st_size, 0
    file.seek(0)
    for number, line in enumerate(file, 1):
        end += len(line)
        if end == size and not _is_whole(line):
            print(f"'{path}': the last line was torn and is cut off; its question is sampled again.", file=sys.stderr)
            file.truncate(end - len(line))
            return
        yield from _parse(args, line, number, rows)


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line) is not None
    except ValueError:
        return False


def _parse(
    args: BuildArguments, line: bytes, number: int, rows: dict[str, dict]
) -> Iterator[tuple[str, list[Sample]]]:
    """The line's question with its samples; nothing for one that is not among `rows`, of an earlier synthesis."""
    try:
        row = json.loads(line)
        id, made_with, samples = row["id"], row["settings"], [Sample(**each) for each in row["samples"]]
    except (KeyError, TypeError, ValueError):
        raise ConstructError(
            f"'{args.samples_path}' line {number} is no row of samples: remove this line, and its question is sampled "
            "again."
        ) from None
    if id not in rows:
        return
    if made_with != settings(args, rows[id]):
        raise ConstructError(
            f"'{args.samples_path}' line {number} was made with other settings (of the model, of sampling or of its "
            "context): delete the file to sample anew, or write another output."
        )
    yield id, samples


def _append(file: BinaryIO, row: dict) -> None:
    line = json.dumps(row, ensure_ascii=False, default=dataclasses.asdict) + "\n"
    try:
        file.write(line.encode("utf-8", "replace"))  # a server's answer cut inside an emoji holds half a character
        file.flush()
    except OSError as error:
        raise ConstructError(
            f"'{file.name}' cannot be written ({error}): make room or give another output; the same command continues."
        ) from None


def _sample_missing(
    args: BuildArguments,
    sampler: Sampler,
    is_enough: Callable[[dict, list[Sample]], bool],
    wanted: int,
    rows: list[dict],
    file: BinaryIO,
    counts: Counts,
) -> None:
    """Asks and appends until enough questions are usable; gives up when many in a row fail."""
    from tqdm import tqdm

    in_a_row = 0
    error: SampleError | None = None
    with tqdm(
        total=counts.questions, initial=counts.finished, desc="sampling", unit="question", dynamic_ncols=True
    ) as progress:
        for row, result in _asked(sampler, rows):
            if isinstance(result, SampleError):
                error = result
                counts.failed += 1
                in_a_row += 1
                if in_a_row == MOST_FAILURES:
                    raise ConstructError(
                        f"{MOST_FAILURES} questions in a row got no answer, the last one because of: {error}; what is "
                        f"finished is kept in '{args.samples_path}' and the same command continues."
                    )
            elif isinstance(result, Exception):
                raise result
            else:
                _append(file, {"id": row["id"], "settings": settings(args, row), "samples": result})
                in_a_row = 0
                counts.sampled += 1
                counts.finished += 1
                counts.usable += is_enough(row, result)
                progress.update()
            progress.set_postfix(usable=f"{counts.usable}/{wanted}", failed=counts.failed, refresh=False)
            if counts.usable >= wanted:
                break
    if error is not None:
        print(
            f"{counts.failed} questions got no answer, the last of them because of: {error}; the same command asks "
            "them again.",
            file=sys.stderr,
        )


def _asked(sampler: Sampler, rows: Iterable[dict]) -> Iterator[tuple[dict, list[Sample] | Exception]]:
    """Asks up to `sampler.workers` rows at a time and yields each with what came back."""

    def ask(row: dict) -> list[Sample] | Exception:
        try:
            return sampler(row)
        except Exception as error:
            return error

    if sampler.workers == 1:
        yield from ((row, ask(row)) for row in rows)
        return
    rows = iter(rows)
    done: SimpleQueue = SimpleQueue()
    under_way = 0
    while True:
        for row in islice(rows, sampler.workers - under_way):
            # Python waits at its end for the threads of a pool; daemons are left to their unanswered requests.
            Thread(target=lambda row=row: done.put((row, ask(row))), daemon=True).start()
            under_way += 1
        if not under_way:
            return
        yield done.get()
        under_way -= 1

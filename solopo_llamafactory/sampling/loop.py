"""Answers of a model to one prompt after another, in a file that only grows: `solopo sample` and `solopo eval`.

A row has an `id` and a `prompt`. A sampler is a callable that takes a row and returns its samples; its attribute `workers`
says how many calls may be under way at a time. What it needs, such as a model, it loads at its first question, so that a
finished file costs nothing to go through again.
"""

import dataclasses
import fcntl
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO, Protocol

from ..common.errors import Skip, SolopoError
from ..common.files import missing, stamp
from .arguments import SamplingArguments
from .marks import EMPTY, advice


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
# What requests and engines are told beside the arguments, so that no defaults of a server or of a model's files enter. -1 is
# what vLLM, SGLang and llama.cpp of all versions take for no top_k.
NEUTRAL = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
MODEL_FILES = (".safetensors", ".bin", ".json", ".jinja")
LOGS = ("train", "all_results", "eval")  # what a finished run leaves beside its model
MOST_FAILURES = 5  # questions in a row
MOST_USELESS = 20  # first samples, of MOST_FAILURES questions or more


@dataclass(frozen=True)
class Sample:
    """One answer.

    `finish` is `stop`, `length` where it was cut off, or a server's word for another end (content_filter, tool_calls ...).
    """

    text: str
    finish: str


class SampleError(Exception):
    """Leaves one question without samples for this run; the next run asks it again."""


class TooLongError(SampleError):
    """A server refuses a prompt for its length."""


class Sampler(Protocol):
    """What asks a model.

    One that has a method `stream(rows, unasked)` is given all rows at once; it yields the unasked ones with their samples in
    order, or returns None to be asked as the others are.
    """

    workers: int  # calls that may be under way at a time

    def __call__(self, row: dict) -> list[Sample]:
        """Returns the samples of one question, or raises `SampleError`, or `Skip` where it need not be asked."""

    def together(self, rows: Sequence[dict]) -> list[list[Sample] | SampleError]:
        """The samples of several questions asked at once, or why one has none (huggingface with a `batch_size`)."""

    @property
    def window(self) -> int | None:
        """Tokens that the model takes, prompt and answer together, where that is known."""

    def close(self) -> None:
        """Gives the model's memory, or the connection, back."""


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
    settings = Settings(args)
    with _opened(path) as file:
        unasked = dict(by_id)
        for id, samples in _read_finished(settings, file, by_id):
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
                _append_answers(settings, answers, gain, wanted, useless, file, counts, progress, size)
    return counts


class Settings:
    """Digest of all that shapes the samples of a row; a model's files are looked at once."""

    def __init__(self, args: SamplingArguments) -> None:
        self._shaping = {key: getattr(args, key) for key in SHAPING} | {"neutral": NEUTRAL}
        if args.infer_backend == "huggingface":  # each group has its own seed
            self._shaping["samples_per_call"] = args.samples_per_call
            if (args.batch_size or 1) > 1 and args.temperature > 0:
                self._shaping["batch_size"] = args.batch_size
        if args.infer_backend != "openai":
            self._shaping["files"] = files_of_model(args)

    def __call__(self, row: dict) -> str:
        text = json.dumps([self._shaping, row["prompt"]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def files_of_model(args: SamplingArguments) -> list[list]:
    """Size and time of a local model's and its adapters' weights, configuration and tokenizer.

    A model that was trained anew in its folder, or whose RoPE was changed, is another model.
    """
    folders = [args.model_name_or_path, *(args.adapter_name_or_path or "").split(",")]
    files = (path for folder in filter(None, folders) for path in sorted(Path(folder).expanduser().glob("*")))
    told = (path for path in files if path.suffix in MODEL_FILES and not path.name.startswith(LOGS))
    return [[path.name, *stamp(path)] for path in told]


def seed_of(args: SamplingArguments, row: dict, index: int) -> int:
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


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file for reading and appending, locked against other runs."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SolopoError(
                    f"another run writes to '{path}': wait for its end or stop it, then run this command again."
                ) from None
            yield file
    except OSError as error:
        raise SolopoError(
            f"'{path}' cannot be written ({error}): make room or give another output; the same command continues."
        ) from None


def finished(args: SamplingArguments, path: Path, rows: dict[str, dict]) -> set[str]:
    """The ids among `rows` that the file has samples of; it may be missing, or torn by a killed run.

    Raises:
        SolopoError: for a file of other settings, a broken one, or one in use.
    """
    if not path.is_file():
        return set()
    with _opened(path) as file:
        return {id for id, _ in _read_finished(Settings(args), file, rows)}


def read_samples(args: SamplingArguments, path: Path, rows: dict[str, dict]) -> Iterator[tuple[str, list[Sample]]]:
    """The finished questions among `rows`, for the steps after sampling.

    Raises:
        SolopoError: for a file that is missing, torn or of other settings.
    """
    if not path.is_file():
        raise missing(path, "sample")
    settings = Settings(args)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                raise SolopoError(f"'{path}' line {number} is torn: run `solopo sample` with the same YAML again.")
            yield from _parse(settings, path, line, number, rows)


def _read_finished(settings: Settings, file: BinaryIO, rows: dict[str, dict]) -> Iterator[tuple[str, list[Sample]]]:
    """Yields the finished questions among `rows`; a last line that a killed run left torn is cut off."""
    path = file.name
    size, end = os.fstat(file.fileno()).st_size, 0
    file.seek(0)
    for number, line in enumerate(file, 1):
        end += len(line)
        if end == size and not _is_whole(line):
            print(f"'{path}': the last line was torn and is cut off; its question is sampled again.", file=sys.stderr)
            file.truncate(end - len(line))
            return
        yield from _parse(settings, path, line, number, rows)


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line) is not None
    except ValueError:
        return False


def _parse(
    settings: Settings, path: str | Path, line: bytes, number: int, rows: dict[str, dict]
) -> Iterator[tuple[str, list[Sample]]]:
    """The line's question with its samples; nothing for one that is not among `rows`."""
    try:
        row = json.loads(line)
        # Earlier versions wrote log-probs beside them.
        samples = [Sample(each["text"], each["finish"]) for each in row["samples"]]
        id, made_with = row["id"], row["settings"]
    except (KeyError, TypeError, ValueError):
        raise SolopoError(
            f"'{path}' line {number} is no row of samples: remove this line, and its question is sampled again."
        ) from None
    if id not in rows:
        return
    if made_with != settings(rows[id]):
        raise SolopoError(
            f"'{path}' line {number} was made with other settings (of the model, of sampling or of its "
            "context), or by an earlier version, which let a server's and the model's own sampling defaults in: delete the file "
            "to sample anew, or write another output."
        )
    yield id, samples


def _append(file: BinaryIO, row: dict) -> None:
    line = json.dumps(row, ensure_ascii=False, default=dataclasses.asdict) + "\n"
    try:
        file.write(line.encode("utf-8", "replace"))  # a server's answer cut inside an emoji holds half a character
        file.flush()
    except OSError as error:
        raise SolopoError(
            f"'{file.name}' cannot be written ({error}): make room or give another output; the same command continues."
        ) from None


def _batches(args: SamplingArguments, rows: Sequence[dict], unasked: dict[str, dict]) -> Iterator[Sequence[dict]]:
    """What is asked together. A batch is whole though a part of it is finished, so that a killed run changes no answer."""
    size = (args.batch_size or 1) if args.infer_backend == "huggingface" else 1
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        if any(row["id"] in unasked for row in batch):
            yield batch


def _append_answers(
    settings: Settings,
    answers: Iterable[tuple[dict, list[Sample] | Exception]],
    gain: Callable[[dict, list[Sample]], int],
    wanted: int | None,
    useless: "Useless",
    file: BinaryIO,
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
                    f"finished is kept in '{file.name}' and the same command continues."
                )
        elif isinstance(result, Skip):
            progress.update(size(row))
        elif isinstance(result, Exception):
            raise result
        else:
            line = {"id": row["id"], "settings": settings(row), "samples": result}
            for each in useless.passed(line):
                _append(file, each)
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
        _append(file, each)
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
        self.held: list[dict] = []
        self._problem = problem
        self._ended = False

    def ended_by(self, samples: Sequence[Sample]) -> bool:
        """Whether any sample so far, these included, is of use."""
        self._ended = self._ended or any(self._problem(each) is None for each in samples)
        return self._ended

    def passed(self, line: dict) -> list[dict]:
        """The lines to write now, this one's last.

        Raises:
            SolopoError: when there have been many and none is of use.
        """
        self.held.append(line)
        if self.ended_by(line["samples"]):
            lines, self.held = self.held, []
            return lines
        problems = Counter(self._problem(each) for held in self.held for each in held["samples"])
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

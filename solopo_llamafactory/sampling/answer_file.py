"""The file of a model's samples: it only grows, one run at a time writes to it, and a killed run leaves it usable.

A line has a question's `id`, its `samples`, and a digest of the `settings` that made them.
"""

import dataclasses
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..common.errors import SolopoError
from ..common.files import missing, stamp
from .arguments import SamplingArguments
from .base import NEUTRAL, Sample


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
MODEL_FILES = (".safetensors", ".bin", ".json", ".jinja")
LOGS = ("train", "all_results", "eval")  # what a finished run leaves beside its model


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


class AnswerFile:
    """The open file, for samples of the same settings."""

    def __init__(self, file: BinaryIO, settings: Settings) -> None:
        self.path = file.name
        self._file = file
        self._settings = settings

    def finished(self, rows: dict[str, dict]) -> Iterator[tuple[str, list[Sample]]]:
        """Yield the finished questions among `rows`; a last line that a killed run left torn is cut off.

        Raises:
            SolopoError: for a line of other settings, or a broken one.
        """
        file = self._file
        size, end = os.fstat(file.fileno()).st_size, 0
        file.seek(0)
        for number, line in enumerate(file, 1):
            end += len(line)
            if end == size and not _is_whole(line):
                print(
                    f"'{self.path}': the last line was torn and is cut off; its question is sampled again.",
                    file=sys.stderr,
                )
                file.truncate(end - len(line))
                return
            yield from _parse(self._settings, self.path, line, number, rows)

    def append(self, row: dict, samples: Sequence[Sample]) -> None:
        """Add a question with its samples."""
        answered = {"id": row["id"], "settings": self._settings(row), "samples": samples}
        line = json.dumps(answered, ensure_ascii=False, default=dataclasses.asdict) + "\n"
        # A server's answer cut inside an emoji holds half a character.
        self._file.write(line.encode("utf-8", "replace"))
        self._file.flush()


@contextmanager
def open_answers(args: SamplingArguments, path: Path) -> Iterator[AnswerFile]:
    """The file for reading and appending, locked against other runs.

    Raises:
        SolopoError: for a file in use, or one that cannot be written.
    """
    settings = Settings(args)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SolopoError(
                    f"another run writes to '{path}': wait for its end or stop it, then run this command again."
                ) from None
            yield AnswerFile(file, settings)
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
    with open_answers(args, path) as file:
        return {id for id, _ in file.finished(rows)}


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

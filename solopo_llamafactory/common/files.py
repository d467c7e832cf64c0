"""Writing files that are complete or absent, and reading the rows of a step."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from .errors import SolopoError
from .json_records import read_json_records


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a new path beside `path`, to write a file there that takes its place when all went well.

    It has the same suffix and is removed when anything failed; the folder is made.
    """
    folder, name = os.path.split(os.path.abspath(path))
    stem, suffix = os.path.splitext(name)
    # A process id would not do: machines that share a disk have the same ones.
    temporary = Path(folder, f".{stem}.{secrets.token_hex(4)}.tmp{suffix}")
    try:
        os.makedirs(folder, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # there is none after all went well
            os.remove(temporary)


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[TextIO]:
    """Opens a text file beside `path` that takes its place when all went well and is removed when not.

    Raises:
        SolopoError: where it cannot be written; an earlier file stays.
    """
    try:
        with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
            yield file
    except OSError as error:
        raise SolopoError(f"'{path}' cannot be written ({error}): give another output.") from None


def write_json(path: Path, value: Any) -> None:
    """Write an object, indented, in one step."""
    with atomic_writer(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_json(path: Path, step: str) -> Any:
    """Read what a step has written; `step` is named where it has not run."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path, step) from None
    except ValueError as error:
        raise SolopoError(f"'{path}' is not JSON ({error}): run `solopo {step}` again.") from None


def read_rows(path: Path, step: str) -> Iterator[dict]:
    """The rows that a step has written, one by one."""
    if not path.is_file():
        raise missing(path, step)
    try:
        for _, row in read_json_records(path):
            yield row
    except ValueError as error:
        raise SolopoError(str(error)) from None


def missing(path: Path, step: str) -> SolopoError:
    """The error for a file that a step has not written yet."""
    return SolopoError(f"'{path}' is missing: run `solopo {step}` with the same YAML first.")


def stamp(path: str | Path) -> list[int]:
    """Size in bytes and time in nanoseconds: what tells a file from an earlier one of its name."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def input_stamps(paths: dict[str, str | None]) -> dict[str, list[int]]:
    """The stamps of the inputs that are on this disk, as `NAME_file`."""
    return {f"{name}_file": stamp(path) for name, path in paths.items() if path is not None and os.path.exists(path)}


def write_line(file: TextIO, row: dict) -> None:
    """Append one row of a JSONL file."""
    file.write(json.dumps(row, ensure_ascii=False) + "\n")

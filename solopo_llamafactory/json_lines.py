"""Reading JSON lines with errors that name the place."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


# JSON can spell half of a surrogate pair, which is no character and which Arrow refuses.
SURROGATE = re.compile("[\ud800-\udfff]")
HALF_CHARACTER = "half of a character"


def read_json_lines(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, object) for each line that is not blank; `where` is "line 3".

    Raises:
        ValueError: for a line that is not a JSON object, in one sentence that names file and line.
    """
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path} line {number}"
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                raise ValueError(f"{where} is not UTF-8: save the file as UTF-8.") from None
            except (json.JSONDecodeError, RecursionError) as err:
                kind = "not JSON" if line.endswith(b"\n") else "cut off"
                raise ValueError(f"{where} is {kind} ({err}): repair or remove it.") from None
            if not isinstance(record, dict):
                raise ValueError(f"{where} is not a JSON object: write one object a line.")
            yield f"line {number}", record


def find_broken_line(paths: Iterable[Path]) -> str | None:
    """Say in one sentence why Arrow cannot read these JSON or JSON lines files, or None when no reason is found."""
    for path in paths:
        types: dict[str, tuple[str, str]] = {}  # field -> (type, where it was first seen)
        try:
            for place, record in _records(path):
                for field, kind in _fields(record, ""):
                    if kind == HALF_CHARACTER:
                        return f"{path} {place}: the field `{field}` holds {kind} (\\ud800 to \\udfff): remove it."
                    known, first = types.setdefault(field, (kind, place))
                    if known != kind:
                        return (
                            f"{path} {place}: the field `{field}` is {kind} here and {known} in {first}, and a field "
                            "has one type throughout a file: write it the same way everywhere."
                        )
        except ValueError as err:
            return str(err)
    return None


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".json" and path.read_text(encoding="utf-8").lstrip().startswith("["):
        try:
            records = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as err:
            raise ValueError(f"{path} line {err.lineno} is not JSON ({err.msg} at column {err.colno}).") from None
        yield from ((f"record {number}", record) for number, record in enumerate(records, 1))
    else:
        yield from read_json_lines(path)


def _fields(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if name:
            yield name, "an object"
        for key, inner in value.items():
            yield from _fields(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        yield name, "a list"
        for inner in value:
            yield from _fields(inner, f"{name}[]")
    elif isinstance(value, str):
        yield name, HALF_CHARACTER if SURROGATE.search(value) else "text"
    elif isinstance(value, bool):
        yield name, "true or false"
    elif isinstance(value, (int, float)):
        yield name, "a number"

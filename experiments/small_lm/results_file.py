"""`results.jsonl`: what was measured, a line a unit, written as soon as it is known."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from solopo_llamafactory.common.errors import SolopoError

from .units import Size


FILE = "results.jsonl"


def read(folder: Path) -> list[dict]:
    """All rows; a last line that a killed run has torn is left out."""
    path = folder / FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def append(folder: Path, row: dict) -> None:
    """Add a row; a torn line before it is ended."""
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    torn = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    if torn:
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def units_of(rows: Sequence[dict]) -> dict[str, dict]:
    """The finished units, by name."""
    return {row["unit"]: row for row in rows if "unit" in row}


def check_size(folder: Path, size: Size, where: dict) -> None:
    """Begin the file with what all its rows share, or refuse one that was begun with other numbers.

    Args:
        where: machine and versions; they may differ from call to call, and a row of their own says so.
    """
    rows = read(folder)
    numbers = json.loads(json.dumps(asdict(size)))
    begun = next((row["size"] for row in rows if "size" in row), None)
    if begun is not None and begun != numbers:
        changed = ", ".join(key for key in numbers if begun.get(key) != numbers[key])
        raise SolopoError(f"'{folder / FILE}' was made with other numbers ({changed} differ): give another --output.")
    if begun is None:
        append(folder, {"size": numbers})
    if [row for row in rows if "machine" in row][-1:] != [where]:
        append(folder, where)


def dev_score(row: dict) -> float:
    """What a learning rate is chosen by: the mean over the development lengths of the right answers, in percent."""
    return float(np.mean([percent(row, "dev", length) for length in row["dev"]["right"]]))


def percent(row: dict, part: str, length: str | int) -> float:
    """Right answers of a unit at a length, in percent."""
    right = outcomes(row, part, length)
    return 100 * float(right.sum()) / (len(right) * row[part]["depths"])


def outcomes(row: dict, part: str, length: str | int) -> np.ndarray:
    """[questions], at how many depths each was answered right."""
    return np.array([int(digit) for digit in row[part]["right"][str(length)]], float)


def chosen(rows: Sequence[dict], method: str, seed: int) -> dict | None:
    """The unit of a method that does best on the development questions; the lower rate of equals."""
    own = [row for row in units_of(rows).values() if row["method"] == method and row["seed"] in (seed, None)]
    return max(own, key=lambda row: (dev_score(row), -(row["rate"] or 0)), default=None)

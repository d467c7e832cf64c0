"""The results file, a JSON object a line, appended as soon as a cell has ended; and comparing its rows."""

import json
import os
import threading
from pathlib import Path
from typing import Any

from solopo_llamafactory.common.json_records import read_json_records

from .cells import Cell


DONE = ("ok", "oom")  # a cell that failed is run again
PLAIN = "all layers"  # the variant that others are compared with


class Results:
    """The rows of a file, those of earlier runs included. May be used by several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = read_rows(path)
        self._lock = threading.Lock()

    def append(self, row: dict[str, Any]) -> None:
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
                lines.flush()
                os.fsync(lines.fileno())
            self.rows.append(row)

    def is_done(self, cell: Cell, machine: str) -> bool:
        """Whether the cell has a result. The ceiling serves all suites, and belongs to a machine."""
        if cell.method == "ceiling":
            return any(
                row["method"] == "ceiling" and row["status"] == "ok" and row["machine"] == machine
                for row in self._copy()
            )
        return any(row["status"] in DONE and Cell.of(row) == cell for row in self._copy())

    def ran_out_shorter(self, cell: Cell) -> bool:
        """Whether the same cell at a shorter length has run out of memory."""
        return any(row["status"] == "oom" and cell.is_longer_twin_of(Cell.of(row)) for row in self._copy())

    def _copy(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self.rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a results file; none where there is no file yet."""
    return [row for _, row in read_json_records(path)] if path.is_file() else []


def latest_rows(path: Path) -> list[dict[str, Any]]:
    """The last row of each cell, in the order in which the cells were first run."""
    return list({Cell.of(row): row for row in read_rows(path)}.values())


def groups_of(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Title -> rows that differ in method, variant and length only. The ceiling belongs to none."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["method"] != "ceiling":
            groups.setdefault(group_title(row), []).append(row)
    return groups


def group_title(row: dict[str, Any]) -> str:
    """What the compared rows have in common."""
    words = [row["suite"].replace("_", " "), row["shape"], row["loss"], row["finetuning"]]
    words.append("CPU" if row["shape"] == "tiny" else f"{row['gpus']} GPU{'s' if row['gpus'] > 1 else ''}")
    if row["accumulation"] > 1:
        words.append(f"accumulation {row['accumulation']}")
    return ", ".join(words)


def time_ratio(row: dict[str, Any], rows: list[dict[str, Any]], method: str) -> float | None:
    """Seconds of a step over those of a method at the same length.

    Compared is the method's row of the same variant where it has one, else its plain one; a method's own variants are
    compared with its plain row. None where that row is missing or has no time.
    """
    title = group_title(row)
    rivals = {
        each["variant"]: each["median_seconds"]
        for each in rows
        if each["method"] == method
        and each["length"] == row["length"]
        and each["status"] == "ok"
        and group_title(each) == title
    }
    plain = rivals.get(PLAIN)
    seconds = plain if row["method"] == method else rivals.get(row["variant"], plain)
    return None if seconds is None else row["median_seconds"] / seconds

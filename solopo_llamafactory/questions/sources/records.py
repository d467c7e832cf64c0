"""Reading files and Hugging Face data sets; records whose fields are checked as they are read."""

import json
import os
from collections.abc import Iterator
from types import NoneType
from typing import Any

from ...common.errors import SolopoError
from ...common.json_records import read_json_records


FILE_ENDINGS = (".json", ".jsonl", ".gz", ".bz2", ".xz", ".parquet", ".arrow", ".csv", ".txt")
# Folders that hold parts of one data set.
FOLDERS_OF_ONE = ("data", "train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")

KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a number",
    list: "a list",
    (int, NoneType): "a number or null",
    (int, str): "a text or a number",
    (list, dict): "a list",
}


class Record:
    """A JSON object whose fields are checked as they are read; `schema` names what it should be."""

    def __init__(self, data: dict, where: str, schema: str) -> None:
        self.data = data
        self.where = where
        self.schema = schema

    def has(self, key: str) -> bool:
        """True for a field that is there and not null (a data set's table has null for a field left out)."""
        return self.data.get(key) is not None

    def get(self, key: str, kind: Any) -> Any:
        """The field's value, which must be of one of the `KINDS`; some copies of data sets hold lists as JSON text."""
        value = self.data.get(key)
        if isinstance(value, str) and kind in (list, (list, dict)):
            value = _parsed(value)
        # bool is an int in Python, but no index.
        if key not in self.data or not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            self.refuse(key, KINDS[kind])
        return value

    def text(self, key: str) -> str:
        """A text without white space around it."""
        return self.valid(self.get(key, str), key).strip()

    def texts(self, key: str) -> list[str]:
        """A list of texts, stripped."""
        return [text.strip() for text in self.valid_list(self.get(key, list), key, "a list of texts")]

    def objects(self, key: str) -> "list[Record]":
        """A list of objects."""
        items = self.get(key, list)
        if not all(isinstance(item, dict) for item in items):
            self.refuse(key, "a list of objects")
        return [Record(item, f"{self.where}, {key}[{i}]", self.schema) for i, item in enumerate(items)]

    def pairs(self, key: str, first: str, second: str) -> list[tuple[Any, Any]]:
        """Pairs, as [[first, second], ...] (official files) or {first: [...], second: [...]} (on the Hub)."""
        value = self.get(key, (list, dict))
        if isinstance(value, dict):
            columns = [value.get(first), value.get(second)]
            is_good = all(isinstance(column, list) for column in columns) and len(columns[0]) == len(columns[1])
            items = list(zip(*columns)) if is_good else []
        else:
            is_good = all(isinstance(item, list) and len(item) == 2 for item in value)
            items = [tuple(item) for item in value] if is_good else []
        if not is_good:
            self.refuse(key, f"a list of [{first}, {second}]")
        return items

    def valid(self, value: Any, key: str, wanted: str = "a text") -> str:
        """A text of the field `key`, as it is. JSON can spell half of a character, which no tokenizer takes."""
        if not isinstance(value, str):
            self.refuse(key, wanted)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            self.refuse(key, "valid Unicode")
        return value

    def valid_list(self, values: Any, key: str, wanted: str) -> list[str]:
        """Texts of the field `key`, as they are."""
        if not isinstance(values, list):
            self.refuse(key, wanted)
        return [self.valid(value, key, wanted) for value in values]

    def refuse(self, key: str, wanted: str) -> None:
        """Ends the command: the field is not what the schema has there."""
        found = "is missing" if key not in self.data else "is of another kind"
        raise SolopoError(f"{self.where}: field '{key}' {found}, a {self.schema} record has {wanted} there.")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_records(path: str) -> Iterator[tuple[str, dict]]:
    """Yields (where, object) of a file, or of the train split of a data set: a folder, a Hub id, or either with
    `:CONFIG` after it."""
    return read_file(path) if os.path.isfile(path) else _read_data_set(path)


def read_file(path: str) -> Iterator[tuple[str, dict]]:
    """Yields (where, object) of each record of a file; a bad one ends the command by name and number."""
    try:
        for place, record in read_json_records(path):
            yield f"{path} {place}", record
    except OSError as error:
        raise SolopoError(f"'{path}' cannot be read ({error.strerror}): give another file.") from None
    except ValueError as error:
        raise SolopoError(str(error)) from None


def _refuse_several_data_sets(folder: str) -> None:
    """The datasets library would read the folders of several configurations as one data set."""
    holding = [entry for entry in os.scandir(folder) if entry.is_dir() and _holds_data(entry.path)]
    parts = [entry for entry in holding if entry.name.lower() in FOLDERS_OF_ONE]
    for part in parts:
        _refuse_several_data_sets(part.path)
    folders = sorted(entry.name for entry in holding if entry not in parts)
    if len(folders) > 1:
        raise SolopoError(
            f"input '{folder}' holds several data sets, in the folders {', '.join(folders)}: name one of them, such as "
            f"'{os.path.join(folder, folders[0])}'."
        )


def _lists_configurations(readme: str) -> bool:
    """Whether a data set's README has the list that the datasets library finds its configurations by."""
    try:
        with open(readme, encoding="utf-8", errors="replace") as file:
            return any(line.startswith("configs:") for line in file)
    except OSError:
        return False


def _holds_data(folder: str) -> bool:
    return any(name.endswith(FILE_ENDINGS) for _, _, names in os.walk(folder) for name in names)


def _read_data_set(path: str) -> Iterator[tuple[str, dict]]:
    # A misspelt file name is no data set to ask the Hub for.
    if path.endswith(FILE_ENDINGS):
        raise SolopoError(f"input '{path}' is not a file: give its path.")
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    name, _, config = (path, "", "") if os.path.isdir(path) else path.partition(":")
    if not _lists_configurations(os.path.join(name, "README.md")):  # each has a folder
        if config and os.path.isdir(os.path.join(name, config)):
            name, config = os.path.join(name, config), ""
        if os.path.isdir(name):
            _refuse_several_data_sets(name)
    try:
        data_set = load_dataset(name, config or None, split="train")
    except Exception as error:  # of many kinds: no network, no such id, configuration or split, bad files
        if isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
            error = error.__cause__
        reason = " ".join(str(error).split()).rstrip(".")
        raise SolopoError(
            f"input '{path}' is neither a file nor a data set that this machine can load ({reason}): give a JSON or "
            "JSONL file, or a data set with a train split (NAME:CONFIG where it has several configurations)."
        ) from None
    for number, record in enumerate(data_set, 1):
        yield f"{path} record {number}", record

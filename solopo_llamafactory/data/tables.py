"""The files of a data set: what they hold, and JSON records as a table that LLaMA-Factory loads.

The datasets library guesses a type for each field from 10 MB of a file at a time: it stops at a field that is null there and
text later, at text beside a list, and takes dates for times. So records travel as JSON text, one a row, and the converter
reads them.
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import datasets.config
import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from ..common.files import atomic_path
from ..common.json_records import half_character_field, read_json_records


# Tables, which LLaMA-Factory loads as they are: ending -> first bytes.
TABLES = {".parquet": b"PAR1", ".arrow": b"", ".csv": b""}
NO_DATA = (".md", ".py")  # a folder from the hub has a README and perhaps its script
SCHEMA = pa.schema({"record": pa.string(), "place": pa.string()})
ROWS_AT_ONCE, CHARACTERS_AT_ONCE = 10_000, 16 << 20


def content_hash(path: Path) -> str | None:
    """A hash of a file's bytes, or of the names and bytes of all files of a folder; None where neither is there."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        content = "".join(f"{file.relative_to(path).as_posix()} {content_hash(file)}\n" for file in files)
        return hashlib.blake2b(content.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def as_table(attr, dataset_dir: str, cache_dir: str | None):
    """An entry of JSON files -> one of a table of their records, kept in the data library's cache; others as they are.

    Args:
        attr: the host's `DatasetAttr`.
        dataset_dir: the folder that its file names are relative to.
        cache_dir: the host's argument.

    Returns:
        An attr with the table's path, and the names of all `fields` of the records; they are None for other entries.

    Raises:
        ValueError: for a file that cannot be read or is empty, in one sentence.
        OSError: when the cache cannot be written.
    """
    path = Path(str(dataset_dir), attr.dataset_name)
    if attr.load_from == "file" and not path.exists():
        raise ValueError(
            f"{path} of dataset `{attr.key}` does not exist: make it by `solopo build` with the YAML that the training "
            "recipe's first lines name, or correct `file_name` in dataset_info.json."
        )
    attr = copy.copy(attr)
    attr.fields = None
    if attr.load_from != "file":
        return attr
    files = _files_of(path)
    if not files:
        raise ValueError(
            f"{path} of dataset `{attr.key}` is a folder without files of data in itself: name one that has them as "
            f"`file_name` in dataset_info.json{_folders_of(path)}."
        )
    if all(map(_is_table, [path] if path.is_file() else path.iterdir())):
        return attr
    key = f"{content_hash(path)}-{__version__}"
    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE, "solopo", key)
    table = folder / f"{path.name}.parquet"
    if not table.is_file():
        _write_table(table, path, files)
    attr.dataset_name = str(table.absolute())
    attr.fields = json.loads(pq.read_metadata(table).metadata[b"fields"])
    return attr


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = (file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    return sorted(file for file in files if file.suffix not in NO_DATA)


def _folders_of(path: Path) -> str:
    names = sorted(each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    return f" (it has the folders {', '.join(names)})" if names else ""


def _is_table(file: Path) -> bool:
    """Whether the host can load a file as the kind that its ending says."""
    if file.suffix not in TABLES or not file.is_file():
        return False
    with open(file, "rb") as content:
        return content.read(8).startswith(TABLES[file.suffix])


def _write_table(table: Path, path: Path, files: list[Path]) -> None:
    fields: dict[str, None] = {}
    with atomic_path(table) as unfinished:
        with open(unfinished, "wb") as file, pq.ParquetWriter(file, SCHEMA) as writer:
            for rows in _batches(files, fields):
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA), row_group_size=len(rows))
            writer.add_key_value_metadata({"fields": json.dumps(list(fields))})
        if not fields:
            raise ValueError(f"{path} is empty: a `solopo` dataset needs at least one JSON object.")


def _batches(files: list[Path], fields: dict[str, None]) -> Iterator[list[dict[str, str]]]:
    """Rows of the table, a bounded number of characters at a time; `fields` takes the names of all fields."""
    rows, size = [], 0
    for file in files:
        for place, record in read_json_records(file):
            fields |= dict.fromkeys(record)
            text = json.dumps(record, ensure_ascii=False, default=str)
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                raise ValueError(
                    f"{file} {place}: the field `{half_character_field(record)}` holds half of a character (\\ud800 to "
                    "\\udfff): write the whole one."
                ) from None
            rows.append({"record": text, "place": f"{file.name} {place}"})
            size += len(text)
            if len(rows) >= ROWS_AT_ONCE or size >= CHARACTERS_AT_ONCE:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows

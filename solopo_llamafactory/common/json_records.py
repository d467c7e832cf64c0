"""The one reader of JSON files: lines, an array, objects over several lines, an array under a name, compressed or not.

What is no such file is named for what it is, and a broken record by its line or number.
"""

import ast
import bz2
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from .encoding import SAMPLE, encoding_of


Record = tuple[str, dict[str, Any]]

BOM = b"\xef\xbb\xbf"
# First bytes -> how to open it.
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
# First bytes -> what such a file is and what to do with it.
OTHER_KINDS = {
    b"(\xb5/\xfd": "is compressed by zstd: decompress it by `zstd -d` and give that file",
    b"PK\x03\x04": "is a zip archive or a spreadsheet: unpack it, or export JSON lines from it",
    b"ARROW1": "is an Arrow file: give it the ending .arrow, or write its rows as JSON lines",
    b"version https://git-lfs": "is a pointer of Git LFS in the place of the file: fetch it by `git lfs pull`",
    b"<": "is an HTML or XML page: download the data themselves",
}
TAR = slice(257, 262), b"ustar"
# Keys under which data sets keep their records beside a version, a licence and the like.
WRAPPERS = ("data", "examples", "instances", "items", "questions", "records", "rows", "samples", "entries", "pairs")
WRAPPERS += ("train", "validation", "valid", "dev", "test", "eval")
IDS = ("id", "_id")  # a file with one record may hold a list under such a name, as our own files of samples do
SPACE = re.compile(r"[ \t\r\n]*")
# JSON can spell half of a surrogate pair, which is no character and which no table or tokenizer takes.
SURROGATE = re.compile("[\ud800-\udfff]")


def read_json_records(path: str | Path) -> Iterator[Record]:
    """Yield (place, object) of each record; `place` is the line where it begins, or its number in an array or table.

    Files may be compressed by gzip, bzip2 or xz and may begin with a byte order mark. JSON lines are read one by one,
    everything else is held as a whole.

    Raises:
        ValueError: for what cannot be read, in one sentence that names file and place.
        OSError: when the file cannot be opened.
    """
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(b"PAR1"):
        yield from _read_parquet(path)
        return
    opener = next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), open)
    try:
        with opener(path, "rb") as file:
            yield from _read_text(_File(path, file))
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path} is compressed, and its end is missing or damaged ({error}): get it again.") from None


class _File:
    """An open file with its name; its bytes without a byte order mark."""

    def __init__(self, path: str | Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file

    def read(self, size: int = -1) -> bytes:
        """The first bytes, or all."""
        self._file.seek(0)
        return self._file.read(size).removeprefix(BOM)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines that are not blank, with their numbers from 1."""
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            line = line.removeprefix(BOM)  # files that were put together have one in their middle
            if line.strip():
                yield number, line


def _read_text(file: _File) -> Iterator[Record]:
    _refuse_other_kinds(file)
    first_two = [line.strip() for _, line in islice(file.lines(), 2)]
    if not first_two:
        return
    are_lines = any(line.startswith(b"{") and line.endswith(b"}") for line in first_two)
    if are_lines and len(first_two) == 2:
        for number, line in file.lines():
            yield f"line {number}", _parse_line(file, number, line)
        return
    text = _decode(file, file.read(), 1)
    if text.lstrip().startswith("["):
        yield from _read_array(file.path, text)
        return
    records = list(_read_objects(file.path, text))
    yield from _unwrap(file.path, records[0][1]) or records if len(records) == 1 else records


def _refuse_other_kinds(file: _File) -> None:
    head = file.read(512)
    for magic, sentence in OTHER_KINDS.items():
        if head.lstrip().startswith(magic):
            raise ValueError(f"{file.path} {sentence}.")
    place, magic = TAR
    if head[place] == magic:
        raise ValueError(f"{file.path} is a tar archive: unpack it by `tar xf` and give the file in it.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        if encoding_of(head) is None:
            raise ValueError(f"{file.path} is a binary file of a kind that is not read: write its rows as JSON lines.")
        raise ValueError(f"{file.path} {_encoding_sentence(file)}")


def _parse_line(file: _File, number: int, line: bytes) -> dict[str, Any]:
    where = f"{file.path} line {number}"
    text = _decode(file, line, number)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not line.endswith(b"\n"):
            raise ValueError(
                f"{where} is cut off ({_reason(error)}): the file ends within it, get it again."
            ) from None
        raise ValueError(f"{where} is {_what_instead(text, error)}.") from None
    if not isinstance(record, dict):
        raise ValueError(f"{where} is not a JSON object: write one object a line.")
    return record


def _reason(error: Exception) -> str:
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _what_instead(text: str, error: Exception) -> str:
    """What a text is that should be a JSON object, and what to do."""
    with suppress(ValueError):
        if text.rstrip().endswith(",") and isinstance(json.loads(text.rstrip()[:-1]), dict):
            return "an object with a comma after it: write one object a line without commas"
    try:
        if isinstance(ast.literal_eval(text.strip()), dict):
            return "not JSON but Python's notation: write it by json.dumps"
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    return f"not JSON ({_reason(error)}): repair it"


def _decode(file: _File, content: bytes, first_line: int) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = first_line + content.count(b"\n", 0, error.start)
        raise ValueError(f"{file.path} line {number} {_encoding_sentence(file)}") from None


def _encoding_sentence(file: _File) -> str:
    """What the file's encoding probably is, and how to convert it."""
    sample = file.read(SAMPLE)
    text = sample.decode("utf-8", errors="replace")
    num_broken = text.count("\ufffd")
    if num_broken < sum(character > "\x7f" for character in text) - num_broken:
        return "is not UTF-8, as the rest of the file is: write the damaged characters there anew."
    name = encoding_of(sample)
    if name is None:
        return "is not UTF-8: save the file as UTF-8."
    return (
        f"is not UTF-8: save the file as UTF-8 (it is probably {name}: `iconv -f {name} -t UTF-8 FILE > NEW_FILE`, and look "
        "at the result)."
    )


def _read_array(path: str | Path, text: str) -> Iterator[Record]:
    """Decodes one record at a time: HotpotQA's 90,000 are too many to hold twice."""
    decoder = json.JSONDecoder()
    position = _skip_space(text, text.index("[") + 1)
    number = 0
    while not text.startswith("]", position):
        number += 1
        where = f"{path} record {number}"
        try:
            record, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            kind = "not JSON" if text.rstrip().endswith("]") else "cut off"
            raise ValueError(f"{where} is {kind} ({error}): repair the file or get it again.") from None
        if not isinstance(record, dict):
            raise ValueError(f"{where} is not a JSON object: write an array of objects, or one object a line.")
        yield f"record {number}", record
        position = _skip_space(text, position)
        if text.startswith(",", position):
            position = _skip_space(text, position + 1)
        elif not text.startswith("]", position):
            raise ValueError(f"{where} is followed by neither a comma nor ']': repair the file or get it again.")
    if _skip_space(text, position + 1) < len(text):
        raise ValueError(f"{path} goes on after its array: write one array of objects, or one object a line.")


def _read_objects(path: str | Path, text: str) -> Iterator[Record]:
    """Objects one after another, each over as many lines as it likes."""
    decoder = json.JSONDecoder()
    end, line = 0, 1
    while (position := _skip_space(text, end)) < len(text):
        line += text.count("\n", end, position)
        where = f"{path} line {line}"
        if end and text.startswith(",", position):
            raise ValueError(f"{where} has a comma after an object: write one object a line without commas.")
        if not text.startswith("{", position):
            raise ValueError(f"{where} begins with {text[position : position + 20]!r}: write one JSON object a line.")
        try:
            record, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            whole = text.rstrip().endswith("}")
            what = _what_instead(text, error) if whole else f"cut off ({error}): get the file again"
            raise ValueError(f"{where} begins an object that is {what}.") from None
        yield f"line {line}", record
        line += text.count("\n", position, end)


def _unwrap(path: str | Path, record: dict[str, Any]) -> list[Record]:
    """The records that a file's only object holds, none where it is a record itself."""
    if any(isinstance(record.get(key), (str, int)) for key in IDS):
        return []
    wrappers = record if len(record) == 1 else WRAPPERS
    lists = [key for key in wrappers if _is_list_of_objects(record.get(key))]
    if len(lists) > 1:
        raise ValueError(
            f"{path} holds several lists, {' and '.join(lists)}: write one of them into a file of its own."
        )
    if lists:
        return [(f"record {number}", item) for number, item in enumerate(record[lists[0]], 1)]
    if len(record) > 1 and {type(value) for value in record.values()} in ({dict}, {list}):
        raise ValueError(
            f"{path} is one object of {len(record)} objects or lists, by columns or by ids: write one record a line (in pandas "
            '`to_json(FILE, orient="records", lines=True)`).'
        )
    return []


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _skip_space(text: str, position: int) -> int:
    return SPACE.match(text, position).end()


def _read_parquet(path: str | Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1000):
                for record in batch.to_pylist():
                    number += 1
                    yield f"row {number}", record
    except pa.ArrowException as error:
        raise ValueError(f"{path} is a parquet file that cannot be read ({error}): get it again.") from None


def half_character_field(record: dict[str, Any]) -> str | None:
    """The field whose text holds half of a character, or None."""
    return next((name for name, text in _texts(record, "") if SURROGATE.search(text)), None)


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, f"{name}[]")
    elif isinstance(value, str):
        yield name, value

"""Checks of a data set's entry in dataset_info.json: every key is used, or refused by name."""

import json
from difflib import get_close_matches
from pathlib import Path

from datasets import Features


FORMAT = "solopo"
NEEDED = ("prompt", "long_prompt", "chosen", "rejected")
TEXT_COLUMNS = ("prompt", "long_prompt", "query", "history", "system", "chosen", "rejected")
MEDIA_COLUMNS = ("images", "videos", "audios")  # rows that hold something there are dropped
COLUMNS = (*TEXT_COLUMNS, *MEDIA_COLUMNS)
UNUSED_COLUMNS = {
    "response": "the answers stand in `chosen` and `rejected`",
    "messages": "name the columns of the two prompts as `prompt` and `long_prompt`",
    "tools": "write the tools into the system message as the model should read them",
    "kto_tag": "the stage reads pairs, of which `rejected` is the undesired one",
}
TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag")
SOURCES = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "file_name")
ENTRY_KEYS = (*SOURCES, "formatting", "ranking", "subset", "split", "folder", "num_samples", "columns", "tags")
EXAMPLE = (
    '"columns": {"prompt": "short_prompt", "long_prompt": "long_prompt", "chosen": "chosen", "rejected": "rejected"}'
)


def check_entry(name: str, attr) -> None:
    """Refuse an entry that does not fit the stage.

    Args:
        name: the entry's name.
        attr: the host's `DatasetAttr`, with the entry itself as `entry`.

    Raises:
        ValueError: for another format, a missing column, or a key that nothing would read.
    """
    place = f"Dataset `{name}` in dataset_info.json"
    if attr.formatting != FORMAT:
        raise ValueError(
            f'{place} has the formatting `{attr.formatting}`, and `stage: solopo` needs "formatting": "solopo" with a '
            "`long_prompt` column: choose a `solopo` dataset, or use `stage: dpo` for this one."
        )
    columns, tags = attr.entry.get("columns", {}), attr.entry.get("tags", {})
    for column in UNUSED_COLUMNS:
        if columns.get(column) is not None:
            raise ValueError(
                f"{place} names a column for `{column}`, which `stage: solopo` does not read: {UNUSED_COLUMNS[column]}, "
                "and remove the key."
            )
    _refuse_unknown(place, '"columns"', columns, (*COLUMNS, *UNUSED_COLUMNS))
    _refuse_unknown(place, '"tags"', tags, TAGS)
    for key in attr.entry:  # others may be notes of the file's owner
        if key in COLUMNS or key in TAGS:
            raise ValueError(f'{place} has `{key}` beside "columns": move it into "{_block_of(key)}".')
        if key not in ENTRY_KEYS and get_close_matches(key, ENTRY_KEYS, cutoff=0.8):
            _refuse_unknown(place, "the entry", {key: attr.entry[key]}, ENTRY_KEYS)
    missing = [key for key in NEEDED if not columns.get(key)]
    if missing:
        raise ValueError(f"{place} names no column for `{missing[0]}`: write {EXAMPLE}.")
    if not attr.ranking:
        raise ValueError(f'{place} lacks "ranking": true: a `solopo` dataset is a preference dataset.')


def _block_of(key: str) -> str:
    return "columns" if key in COLUMNS else "tags"


def _refuse_unknown(place: str, block: str, values: dict, known: tuple[str, ...]) -> None:
    unknown = [key for key in values if key not in known]
    if unknown:
        missing = [key for key in NEEDED if key in known and key not in values]
        close = get_close_matches(unknown[0], missing, n=1) or get_close_matches(unknown[0], known, n=1)
        advice = f"write `{close[0]}`" if close else f"remove it, or write one of {', '.join(known)}"
        raise ValueError(f"{place} has the unknown key `{unknown[0]}` in {block}: {advice}.")


def wrong_stage_sentence(name: str, dataset_dir) -> str:
    """What to say of a `solopo` data set under another stage."""
    views = []
    info_path = Path(str(dataset_dir), "dataset_info.json")
    if info_path.is_file():
        info = json.loads(info_path.read_text(encoding="utf-8"))
        file_name = info.get(name, {}).get("file_name")
        views = [
            other
            for other, entry in info.items()
            if file_name and entry.get("file_name") == file_name and entry.get("formatting", "alpaca") != FORMAT
        ]
    advice = (
        f"use its views {' or '.join(f'`{view}`' for view in views)} with `stage: dpo`"
        if views
        else "add an entry for the same file with alpaca formatting and `short_prompt` or `long_prompt` as its prompt"
    )
    return f"Dataset `{name}` is in `solopo` formatting, which only `stage: solopo` reads: {advice}."


def check_columns(attr, fields: list[str]) -> None:
    """Refuse a data set that lacks a column of its entry.

    Args:
        attr: the host's `DatasetAttr` with the entry's name as `key` and its file as `source`.
        fields: the names of all fields that its rows have.

    Raises:
        ValueError: naming the data set and the column.
    """
    for key in COLUMNS:
        column = getattr(attr, key)
        if column and column not in fields:
            raise ValueError(
                f"Dataset `{attr.key}` ({attr.source}) has no field `{column}` in any row, which its entry in "
                f"dataset_info.json names as `{key}`: its fields are {', '.join(fields)}; name the right one there, or "
                "remove the key."
            )


def check_types(attr, features: Features) -> None:
    """Refuse a table whose texts were read as times.

    Raises:
        ValueError: naming the data set and the column.
    """
    for key in TEXT_COLUMNS:
        column = getattr(attr, key)
        if column and str(getattr(features[column], "dtype", "")).startswith("timestamp"):
            raise ValueError(
                f"Dataset `{attr.key}` ({attr.source}) has nothing but dates in the field `{column}`, and the datasets "
                "library reads those as times instead of text: write a sentence around one of them, such as `The answer is "
                "1960-01-31.`"
            )

"""Entering the pairs in `dataset_info.json`, for the solopo stage and for LLaMA-Factory's own dpo stage."""

import json
import os
from pathlib import Path

from ..common.errors import SolopoError
from ..common.files import write_json
from .arguments import BuildArguments


def register(args: BuildArguments, with_held_out: bool) -> list[str]:
    """Write or update the entries, all others untouched, and return their names.

    Raises:
        SolopoError: when the file is there and is not a JSON object, or has such a name for another file.
    """
    path = Path(args.dataset_info)
    info = refuse_taken_names(args)
    train, held_out = (_entries_of(args, *each) for each in _files(args))
    entries = train | held_out if with_held_out else train
    # Entries of held-out pairs that are no more would lead nowhere.
    stale = set() if with_held_out else {name for name, entry in held_out.items() if info.get(name) == entry}
    new = {name: entry for name, entry in info.items() if name not in stale} | entries
    if new != info:
        write_json(path, new)
    return list(entries)


def refuse_taken_names(args: BuildArguments) -> dict:
    """What `dataset_info` holds; SolopoError where one of our names stands for another file there."""
    info = _read(Path(args.dataset_info))
    for name, file in _files(args)[: 2 if args.num_held_out else 1]:
        for key, entry in _entries_of(args, name, file).items():
            taken = info.get(key, entry)
            if not isinstance(taken, dict) or taken.get("file_name") != entry["file_name"]:
                raise SolopoError(
                    f"dataset_info '{args.dataset_info}' has `{key}` for other data: write another dataset_name."
                )
    return info


def _files(args: BuildArguments) -> list[tuple[str, Path]]:
    return [(args.dataset_name, Path(args.output)), (f"{args.dataset_name}_heldout", args.held_out_path)]


def _entries_of(args: BuildArguments, name: str, file: Path) -> dict[str, dict]:
    return dataset_entries(name, os.path.relpath(file, Path(args.dataset_info).parent).replace(os.sep, "/"))


def dataset_entries(name: str, file_name: str) -> dict[str, dict]:
    """The entry for the solopo stage, and one view a context for LLaMA-Factory's own dpo stage."""
    answers = {"chosen": "chosen", "rejected": "rejected"}
    entries = {
        name: {
            "file_name": file_name,
            "formatting": "solopo",
            "ranking": True,
            "columns": {"prompt": "short_prompt", "long_prompt": "long_prompt", **answers},
        }
    }
    for view in ("short", "long"):
        entries[f"{name}_{view}"] = {
            "file_name": file_name,
            "formatting": "alpaca",
            "ranking": True,
            "columns": {"prompt": f"{view}_prompt", **answers},
        }
    return entries


def _read(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise SolopoError(f"dataset_info '{path}' is not JSON ({error}): repair it or name another file.") from None
    if not isinstance(info, dict):
        raise SolopoError(f"dataset_info '{path}' is not a JSON object: repair it or name another file.")
    return info

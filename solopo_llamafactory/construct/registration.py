"""Entering the pairs in `dataset_info.json`, for the solopo stage and for LLaMA-Factory's own dpo stage."""

import json
import os
from pathlib import Path

from .arguments import BuildArguments
from .errors import ConstructError
from .files import atomic_writer


def register(args: BuildArguments, with_held_out: bool) -> list[str]:
    """Write or update the entries, all others untouched, and return their names.

    Raises:
        ConstructError: when the file is there and is not a JSON object.
    """
    path = Path(args.dataset_info)
    info = _read(path)
    files = {args.dataset_name: Path(args.output)}
    if with_held_out:
        files[f"{args.dataset_name}_heldout"] = args.held_out_path
    entries = {}
    for name, file in files.items():
        relative = os.path.relpath(file, path.parent or ".").replace(os.sep, "/")
        entries |= dataset_entries(name, relative)
    if info != info | entries:
        with atomic_writer(path) as file:
            json.dump(info | entries, file, indent=2, ensure_ascii=False)
            file.write("\n")
    return list(entries)


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
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConstructError(f"dataset_info '{path}' is not JSON ({error}): repair it or name another file.") from None
    if not isinstance(info, dict):
        raise ConstructError(f"dataset_info '{path}' is not a JSON object: repair it or name another file.")
    return info

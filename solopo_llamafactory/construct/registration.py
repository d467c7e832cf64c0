"""What `dataset_info.json` must say about a built file."""

import json
import os


DATASET_INFO = "dataset_info.json"


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


def registration_lines(output: str, info_path: str = DATASET_INFO) -> list[str]:
    """Says under which name the file is registered, or what to add so that it is."""
    try:
        with open(info_path, encoding="utf-8") as file:
            info = json.load(file)
    except (OSError, ValueError):
        info = {}
    folder = os.path.dirname(os.path.abspath(info_path))
    for name, entry in info.items() if isinstance(info, dict) else ():
        if not isinstance(entry, dict) or entry.get("formatting") != "solopo":
            continue
        if os.path.realpath(os.path.join(folder, entry.get("file_name", ""))) == os.path.realpath(output):
            return [f"Registered in {info_path}: train on it with `dataset: {name}`."]
    name = os.path.splitext(os.path.basename(output))[0]
    entries = dataset_entries(name, os.path.relpath(output, folder).replace(os.sep, "/"))
    text = json.dumps(entries, indent=2)
    return [f"Not registered yet: add these entries to {info_path}, then train with `dataset: {name}`.", text]

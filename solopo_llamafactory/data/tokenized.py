"""The folder `tokenized_path`: tokens, their counts, and what they depend on, in `solopo.json`.

A folder is made once and used on other machines, where its sources may be absent. So what can be compared is compared,
by content and never by time, and what cannot is said in a line of the log.
"""

import hashlib
import json
import os
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from .. import STAGE
from ..common.distributed import is_main, same_everywhere
from ..host.imports import DatasetAttr, get_dataset_list
from ..host.log import logger
from .summary import DataReport
from .tables import content_hash


FINGERPRINT_FILE = "solopo.json"
VERSION = 2  # of the fingerprint
ADVICE = "remove the folder or name another one to tokenise anew"


def fingerprint_of(template, data_args, training_args, finetuning_args, tokenizer) -> dict[str, Any]:
    """All that the tokens depend on, as JSON holds it; what makes no difference to them is null."""
    text = "The quick brown fox, 1960: naive cafe\n\n\u00e9\u4e2d"
    turns = [{"role": role, "content": text} for role in ("user", "assistant")]
    names = [*(data_args.dataset or []), *(data_args.eval_dataset or [])]
    sources = same_everywhere(_sources(names, data_args.dataset_dir) if is_main() else None)
    mixes = len(data_args.dataset or []) > 1 or len(data_args.eval_dataset or []) > 1
    interleaves = mixes and data_args.mix_strategy != "concat"
    samples = any(source and source["entry"]["num_samples"] for source in sources.values())
    fingerprint = {
        "version": VERSION,
        "stage": STAGE,
        **{name: getattr(data_args, name) for name in ("dataset", "eval_dataset", "val_size", "max_samples")},
        "eval_on_each_dataset": data_args.eval_on_each_dataset if data_args.eval_dataset else None,
        "mix_strategy": data_args.mix_strategy if mixes else None,
        "interleave_probs": data_args.interleave_probs if interleaves else None,
        "seed": training_args.seed,
        "seed_matters": data_args.val_size > 0 or interleaves or samples,
        "cutoff_len": data_args.cutoff_len,
        "template": data_args.template,
        **{name: getattr(data_args, name) for name in ("default_system", "tool_format")},
        **{name: getattr(data_args, name) for name in ("enable_thinking", "preserve_thinking")},
        # Tells templates apart by what they do.
        "rendered": [template.encode_oneturn(tokenizer, *probe) for probe in ((turns,), (2 * turns, text))],
        "tokenizer": _tokenizer_hash(tokenizer),
        "solopo_view": finetuning_args.solopo_view,
        "solopo_align": finetuning_args.solopo_align,
        "solopo_overlong": finetuning_args.solopo_overlong,
        "sources": sources,
    }
    return json.loads(json.dumps(fingerprint))


def _sources(names: list[str], dataset_dir) -> dict[str, dict | None]:
    """Of each data set its entry in dataset_info.json and its content's hash, null where this machine has none."""
    return {name: _source(name, dataset_dir) for name in dict.fromkeys(names)}


def _source(name: str, dataset_dir) -> dict | None:
    try:
        (attr,) = get_dataset_list([name], dataset_dir)
    except Exception:  # no dataset_info.json, none on the hub that can be reached, no such entry
        return None
    entry = {field.name: getattr(attr, field.name) for field in fields(DatasetAttr)}
    entry["long_prompt"] = getattr(attr, "long_prompt", None)
    path = Path(attr.dataset_name)
    if attr.load_from in ("file", "script"):
        path = Path(str(dataset_dir), attr.dataset_name)
        del entry["dataset_name"]  # the content tells
    try:
        return {"entry": entry, "content": content_hash(path)}
    except OSError:
        return {"entry": entry, "content": None}


def _tokenizer_hash(tokenizer) -> str:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    content = fast.to_str() if hasattr(fast, "to_str") else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    content += f" {getattr(tokenizer, 'split_special_tokens', False)}"
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check_tokenized(path: str, fingerprint: dict[str, Any]) -> dict[str, list[DataReport]]:
    """The reports of a folder that was made with the same settings from the same data.

    Raises:
        ValueError: when it was made by another stage, with other settings or from other data, or cannot be checked.
    """
    try:
        saved = json.loads(Path(path, FINGERPRINT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"`tokenized_path: {path}` was not made by `stage: solopo`: {ADVICE}.") from None
    if saved["fingerprint"].get("version") != VERSION:
        raise ValueError(
            f"`tokenized_path: {path}` was made by another version of this package, which did not keep what its tokens "
            f"depend on, so they cannot be checked: {ADVICE}."
        )
    alone = {"sources", "seed_matters"} | ({"seed"} if not saved["fingerprint"]["seed_matters"] else set())
    for key, value in fingerprint.items():
        if key not in alone and saved["fingerprint"].get(key) != value:
            what = "another tokenizer or template" if key in ("rendered", "tokenizer") else f"another `{key}`"
            raise ValueError(f"`tokenized_path: {path}` was made with {what}: {ADVICE}.")
    for name, source in fingerprint["sources"].items():
        _check_source(path, name, source, saved["fingerprint"]["sources"][name])
    return {split: [DataReport.from_dict(report) for report in reports] for split, reports in saved["reports"].items()}


def _check_source(path: str, name: str, source: dict | None, saved: dict | None) -> None:
    if source is not None and saved is not None:
        changed = [key for key, value in source["entry"].items() if saved["entry"].get(key) != value]
        if changed:
            raise ValueError(
                f"`tokenized_path: {path}` was made with another `{changed[0]}` of data set `{name}` in "
                f"dataset_info.json: {ADVICE}."
            )
        if source["content"] and saved["content"]:
            if source["content"] != saved["content"]:
                raise ValueError(
                    f"`tokenized_path: {path}` was made from another content of data set `{name}`, which has changed "
                    f"since: {ADVICE}."
                )
            return
    logger.info_rank0(
        f"The tokens in {path} are used without comparing the content of data set `{name}`, which is in no file on this "
        "machine."
    )


def save_tokenized(path: str, dataset_module: dict, reports: dict, fingerprint: dict[str, Any]) -> None:
    """Write the folder as a whole.

    Raises:
        ValueError: when it cannot be written.
    """
    splits = {"train": dataset_module.get("train_dataset")}
    evaluation = dataset_module.get("eval_dataset")
    if isinstance(evaluation, dict):
        splits |= {f"validation_{name}": dataset for name, dataset in evaluation.items()}
    else:
        splits["validation"] = evaluation
    unfinished = f"{path.rstrip(os.sep)}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    saved = {
        "fingerprint": fingerprint,
        "reports": {split: [report.to_dict() for report in reports] for split, reports in reports.items()},
    }
    try:
        DatasetDict({name: dataset for name, dataset in splits.items() if dataset is not None}).save_to_disk(
            unfinished
        )
        Path(unfinished, FINGERPRINT_FILE).write_text(json.dumps(saved, indent=1), encoding="utf-8")
        if os.path.isdir(path):
            os.rmdir(path)  # empty: has_tokenized_data said so
        os.replace(unfinished, path)
    except OSError as err:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise ValueError(
            f"`tokenized_path: {path}` cannot be written ({err}): make room, or name a folder on another disk."
        ) from None

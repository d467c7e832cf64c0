"""Replacements in the host's data loading, and loading the stage's data through it."""

import errno
import hashlib
import inspect
import json
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path

import datasets.config
from datasets import Dataset, Features
from datasets.exceptions import DatasetGenerationError
from llamafactory.data import get_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.extras.misc import has_tokenized_data

from .. import converter, processor
from ..json_lines import find_broken_line
from ..report import DataReport, filter_dataset
from .arguments import STAGE


FORMAT = "solopo"
FINGERPRINT_FILE = "solopo.json"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Arguments and reports of the load in progress. The host's functions between us and our seams know neither.
_load: ContextVar[dict] = ContextVar("solopo_load")


class _MapWith:
    """Stands in for a dataset in a host function that only iterates and maps it, and changes how it is mapped."""

    def __init__(self, dataset: Dataset, features: Features, then: Callable[[Dataset], Dataset] = lambda ds: ds):
        self.dataset, self.features, self.then = dataset, features, then

    def __iter__(self):
        return iter(self.dataset)

    def map(self, function, **kwargs) -> Dataset:
        # Explicit features: a column that is null in the first batch would get the type null for good.
        return self.then(self.dataset.map(function, features=self.features, **kwargs))


def add_converter(register_dataset_converter):
    """Call the host's public registration."""
    register_dataset_converter(FORMAT, converter.SolopoDatasetConverter)
    return register_dataset_converter


def read_long_prompt_column(join):
    """Around `DatasetAttr.join`, which copies the columns it knows only."""

    @wraps(join)
    def wrapper(self, attr, *args, **kwargs):
        join(self, attr, *args, **kwargs)
        self.long_prompt = attr.get("columns", {}).get("long_prompt")

    return wrapper


def check_formats(get_merged_dataset):
    """Around `loader._get_merged_dataset`: our data under our stage, the host's under its own."""

    def change(call):
        names, data_args = call["dataset_names"], call["data_args"]
        for name, attr in zip(names or [], get_dataset_list(names, data_args.dataset_dir)):
            if call["stage"] == STAGE:
                _check_solopo_entry(name, attr)
            elif attr.formatting == FORMAT:
                raise ValueError(_wrong_stage_sentence(name, data_args.dataset_dir))
        if call["stage"] == STAGE:
            call["stage"] = "rm"  # the host's word for ranked data

    return _with_changed_arguments(get_merged_dataset, change)


def name_broken_lines(load_single_dataset):
    """Around `loader._load_single_dataset`: say where a file cannot be read instead of Arrow's traceback."""
    signature = inspect.signature(load_single_dataset)

    @wraps(load_single_dataset)
    def wrapper(*args, **kwargs):
        call = signature.bind(*args, **kwargs).arguments
        attr = call["dataset_attr"]
        if attr.formatting != FORMAT:
            return load_single_dataset(*args, **kwargs)
        path = Path(str(call["data_args"].dataset_dir), attr.dataset_name)
        if attr.load_from == "file" and path.is_file() and path.stat().st_size == 0:
            raise ValueError(f"{path} is empty: a `solopo` dataset needs at least one JSON object.")
        try:
            return load_single_dataset(*args, **kwargs)
        except DatasetGenerationError as err:
            if getattr(err.__cause__, "errno", None) in DISK_FULL:  # the cache's disk; the file may be in order
                raise err.__cause__ from None
            files = [path] if path.is_file() else sorted(path.glob("*"))
            broken = find_broken_line(files) if attr.load_from == "file" else None
            raise ValueError(broken or f"{attr} cannot be read: {err.__cause__ or err}.") from None
        except ValueError as err:
            if "corresponds to no data" not in str(err):  # the datasets library's words for a file without rows
                raise
            raise ValueError(f"{path} is empty: a `solopo` dataset needs at least one JSON object.") from None

    return wrapper


def align_with_features(align_dataset):
    """Around `loader.align_dataset`: the converter's columns with their types."""

    def change(call):
        if call["dataset_attr"].formatting == FORMAT:
            _check_file_columns(call["dataset"], call["dataset_attr"])
            call["dataset"] = _MapWith(_with_ids(call["dataset"], call["dataset_attr"]), converter.FEATURES)

    return _with_changed_arguments(align_dataset, change)


def _with_ids(dataset: Dataset, dataset_attr) -> Dataset:
    """The rows of a file without the field `id` are named by file and row, which a person can look up."""
    if "id" in dataset.column_names or dataset_attr.num_samples is not None:  # the host has drawn rows at random
        return dataset
    return dataset.add_column("id", [f"{dataset_attr} row {number}" for number in range(1, len(dataset) + 1)])


def choose_processor(get_dataset_processor):
    """Around `loader._get_dataset_processor`."""
    signature = inspect.signature(get_dataset_processor)

    @wraps(get_dataset_processor)
    def wrapper(*args, **kwargs):
        call = signature.bind(*args, **kwargs).arguments
        if call["stage"] != STAGE:
            return get_dataset_processor(*args, **kwargs)
        return processor.SolopoDatasetProcessor(
            call["template"], call["tokenizer"], call["processor"], call["data_args"]
        )

    return wrapper


def drop_and_count(get_preprocessed_dataset):
    """Around `loader._get_preprocessed_dataset`: drop and count before the host prints its example.

    Every process computes this from the mapped dataset itself, so that neither its cache nor its worker processes can
    lose a count.
    """

    def change(call):
        if call["stage"] != STAGE or call["dataset"] is None:
            return
        load, split = _load.get(), "eval" if call.get("is_eval") else "train"

        def drop(mapped: Dataset) -> Dataset:
            kept, report = filter_dataset(mapped, call["data_args"].cutoff_len, load["finetuning_args"])
            load["reports"].setdefault(split, []).append(report)
            return kept

        call["dataset"] = _MapWith(call["dataset"], processor.FEATURES, then=drop)

    return _with_changed_arguments(get_preprocessed_dataset, change)


def _with_changed_arguments(function: Callable, change: Callable[[dict], None]) -> Callable:
    """`function`, whose arguments by name go through `change` first; those we do not know pass as they are."""
    signature = inspect.signature(function)

    @wraps(function)
    def wrapper(*args, **kwargs):
        call = signature.bind(*args, **kwargs)
        change(call.arguments)
        return function(*call.args, **call.kwargs)

    return wrapper


def load_data(
    template, model_args, data_args, training_args, finetuning_args, tokenizer, processor=None
) -> tuple[dict, dict[str, list[DataReport]]]:
    """Load, tokenise, drop and count through the host's `get_dataset`.

    With `tokenized_path`, the result is written there at once as a whole, with its counts and the settings it depends
    on in `solopo.json`, and read from there the next time.

    Returns:
        The host's dataset module (`train_dataset`, `eval_dataset`) and the reports of each split.

    Raises:
        ValueError: when nothing is left, when a dataset does not fit the stage, or when `tokenized_path` was made by
            another stage or with other settings; when the disk of the data library's cache is full.
    """
    path = data_args.tokenized_path
    fingerprint = _fingerprint(template, data_args, finetuning_args, tokenizer)
    if path is not None and has_tokenized_data(path):
        reports = _check_tokenized(path, fingerprint)
        if training_args.do_eval and "eval" not in reports:
            raise ValueError(
                f"`tokenized_path: {path}` has no evaluation data and `do_eval` asks for some: remove the folder or "
                "name another one to tokenise anew."
            )
        dataset_module = get_dataset(
            template, model_args, data_args, training_args, STAGE, tokenizer=tokenizer, processor=processor
        )
        return dataset_module, reports

    with _loading(finetuning_args) as load:
        data_args.tokenized_path = None  # the host writes split by split, and a killed run leaves half of it
        try:
            dataset_module = get_dataset(
                template, model_args, data_args, training_args, STAGE, tokenizer=tokenizer, processor=processor
            )
        except OSError as err:
            if err.errno not in DISK_FULL:
                raise
            raise ValueError(
                f"The data library's cache cannot be written to {model_args.cache_dir or datasets.config.HF_DATASETS_CACHE} "
                f"({err}): make room, or set `cache_dir` to a folder on another disk."
            ) from err
        finally:
            data_args.tokenized_path = path
    if path is not None and training_args.should_save:
        _save_tokenized(path, dataset_module, load["reports"], fingerprint)
    return dataset_module, load["reports"]


@contextmanager
def _loading(finetuning_args):
    token = _load.set({"finetuning_args": finetuning_args, "reports": {}})
    try:
        yield _load.get()
    finally:
        _load.reset(token)


def _check_solopo_entry(name: str, attr) -> None:
    entry = f"Dataset `{name}` in dataset_info.json"
    if attr.formatting != FORMAT:
        raise ValueError(
            f'{entry} has the formatting `{attr.formatting}`, and `stage: solopo` needs "formatting": "solopo" with a '
            "`long_prompt` column: choose a `solopo` dataset, or use `stage: dpo` for this one."
        )
    missing = [key for key in ("prompt", "long_prompt", "chosen", "rejected") if not getattr(attr, key, None)]
    if missing:
        raise ValueError(
            f'{entry} names no column for `{missing[0]}`: write "columns": {{"prompt": "short_prompt", '
            '"long_prompt": "long_prompt", "chosen": "chosen", "rejected": "rejected"}.'
        )
    if not attr.ranking:
        raise ValueError(f'{entry} lacks "ranking": true: a `solopo` dataset is a preference dataset.')
    others = [key for key in ("images", "videos", "audios", "tools") if getattr(attr, key, None)]
    if others:
        raise ValueError(f"{entry} has a column for `{others[0]}`: `stage: solopo` trains on text only, remove it.")


def _wrong_stage_sentence(name: str, dataset_dir) -> str:
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


def _check_file_columns(dataset: Dataset, dataset_attr) -> None:
    columns = [getattr(dataset_attr, key) for key in ("prompt", "long_prompt", "chosen", "rejected")]
    missing = [column for column in columns if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"{dataset_attr} has no field `{missing[0]}` in any row: its fields are "
            f"{', '.join(dataset.column_names)}; name the right one in dataset_info.json."
        )
    for column in columns:
        if str(getattr(dataset.features[column], "dtype", "")).startswith("timestamp"):
            raise ValueError(
                f"{dataset_attr} has nothing but dates in the field `{column}`, and the datasets library reads those "
                "as times instead of text: write a sentence around one of them, such as `The answer is 1960-01-31.`"
            )


def _fingerprint(template, data_args, finetuning_args, tokenizer) -> dict:
    probe = "The quick brown fox, 1960: naive cafe\n\n\u00e9\u4e2d"
    messages = [{"role": "user", "content": probe}, {"role": "assistant", "content": probe}]
    return {
        "stage": STAGE,
        **{name: getattr(data_args, name) for name in ("dataset", "eval_dataset", "val_size", "max_samples")},
        "cutoff_len": data_args.cutoff_len,
        "template": data_args.template,
        "rendered": template.encode_oneturn(
            tokenizer, messages
        ),  # tells templates and tokenizers apart by what they do
        "tokenizer": _tokenizer_hash(tokenizer),
        "solopo_view": finetuning_args.solopo_view,
        "solopo_align": finetuning_args.solopo_align,
        "solopo_overlong": finetuning_args.solopo_overlong,
    }


def _tokenizer_hash(tokenizer) -> str:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    content = fast.to_str() if hasattr(fast, "to_str") else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _check_tokenized(path: str, fingerprint: dict) -> dict[str, list[DataReport]]:
    advice = "remove the folder or name another one to tokenise anew"
    try:
        saved = json.loads(Path(path, FINGERPRINT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"`tokenized_path: {path}` was not made by `stage: solopo`: {advice}.") from None
    fingerprint = json.loads(json.dumps(fingerprint))
    for key, value in fingerprint.items():
        if saved["fingerprint"].get(key) != value:
            what = "another tokenizer or template" if key in ("rendered", "tokenizer") else f"another `{key}`"
            raise ValueError(f"`tokenized_path: {path}` was made with {what}: {advice}.")
    return {split: [DataReport(**report) for report in reports] for split, reports in saved["reports"].items()}


def _save_tokenized(path: str, dataset_module: dict, reports: dict, fingerprint: dict) -> None:
    from datasets import DatasetDict

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

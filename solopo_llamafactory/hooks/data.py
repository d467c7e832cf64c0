"""Replacements in the host's data loading, and loading the stage's data through it."""

import errno
import inspect
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

import datasets.config
import pyarrow as pa
from datasets import Dataset, Features
from datasets.exceptions import DatasetGenerationError
from llamafactory.data import get_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.extras.misc import has_tokenized_data

from ..data import converter, processor
from ..data.entries import EXAMPLE, FORMAT, check_columns, check_entry, check_types, wrong_stage_sentence
from ..data.report import DataReport, filter_dataset
from ..data.tables import as_table
from ..data.tokenized import check_tokenized, fingerprint_of, save_tokenized
from ..host.imports import logger
from .arguments import STAGE


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


def read_whole_entry(join):
    """Around `DatasetAttr.join`, which copies the keys it knows only."""

    @wraps(join)
    def wrapper(self, attr, *args, **kwargs):
        if attr.get("formatting") != FORMAT:
            return join(self, attr, *args, **kwargs)
        for block in ("columns", "tags"):
            if not isinstance(attr.get(block, {}), dict):
                raise ValueError(f'{self} has no object as "{block}" in dataset_info.json: write {EXAMPLE}.')
        join(self, attr, *args, **kwargs)
        self.entry, self.long_prompt = attr, attr.get("columns", {}).get("long_prompt")
        self.source = self.dataset_name

    return wrapper


def name_data_sets(get_dataset_list):
    """Around `loader.get_dataset_list`: what is said of a row names its entry, for a file may have several."""

    @wraps(get_dataset_list)
    def wrapper(*args, **kwargs):
        attrs = get_dataset_list(*args, **kwargs)
        names = inspect.signature(get_dataset_list).bind(*args, **kwargs).arguments["dataset_names"]
        for name, attr in zip(names or [], attrs):
            if attr.formatting == FORMAT:
                attr.key = name
        return attrs

    return wrapper


def check_formats(get_merged_dataset):
    """Around `loader._get_merged_dataset`: our data under our stage, the host's under its own."""

    def change(call):
        names, data_args = call["dataset_names"], call["data_args"]
        for name, attr in zip(names or [], get_dataset_list(names, data_args.dataset_dir)):
            if call["stage"] == STAGE:
                check_entry(name, attr)
            elif attr.formatting == FORMAT:
                raise ValueError(wrong_stage_sentence(name, data_args.dataset_dir))
        if call["stage"] == STAGE:
            call["stage"] = "rm"  # the host's word for ranked data

    return _with_changed_arguments(get_merged_dataset, change)


def read_json_files(load_single_dataset):
    """Around `loader._load_single_dataset`: JSON through our own reader, and one sentence for what cannot be loaded."""
    signature = inspect.signature(load_single_dataset)

    @wraps(load_single_dataset)
    def wrapper(*args, **kwargs):
        call = signature.bind(*args, **kwargs)
        attr = call.arguments["dataset_attr"]
        if attr.formatting != FORMAT:
            return load_single_dataset(*args, **kwargs)
        data_args, model_args = call.arguments["data_args"], call.arguments["model_args"]
        call.arguments["dataset_attr"] = as_table(attr, data_args.dataset_dir, model_args.cache_dir)
        try:
            return load_single_dataset(*call.args, **call.kwargs)
        except (DatasetGenerationError, pa.ArrowException) as err:
            if getattr(err.__cause__, "errno", None) in DISK_FULL:  # the cache's disk; the file may be in order
                raise err.__cause__ from None
            reason = " ".join(str(err.__cause__ or err).split())
            if isinstance(err.__cause__, UnicodeDecodeError):
                reason = f"it is not UTF-8 ({reason}): save it as UTF-8."
            raise ValueError(f"Dataset `{attr.key}` ({attr.source}) cannot be read: {reason}") from None

    return wrapper


def align_with_features(align_dataset):
    """Around `loader.align_dataset`: the converter's columns with their types."""

    def change(call):
        attr, dataset = call["dataset_attr"], call["dataset"]
        if attr.formatting == FORMAT:
            check_columns(attr, attr.fields or dataset.column_names)
            if attr.fields is None:
                check_types(attr, dataset.features)
                dataset = _with_ids(dataset, attr)
            call["dataset"] = _MapWith(dataset, converter.FEATURES)

    return _with_changed_arguments(align_dataset, change)


def _with_ids(dataset: Dataset, attr) -> Dataset:
    """The rows of a table without the field `id` are named by file and row, which a person can look up."""
    if "id" in dataset.column_names or attr.num_samples is not None:  # the host has drawn rows at random
        return dataset
    return dataset.add_column("id", [f"{attr.source} row {number}" for number in range(1, len(dataset) + 1)])


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
            data_args = call["data_args"]
            # A part that is split off at random may have few examples of a small data set.
            all_needed = split == "train" or data_args.val_size == 0
            kept, report = filter_dataset(mapped, data_args.cutoff_len, load["finetuning_args"], split, all_needed)
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
    fingerprint = (
        None if path is None else fingerprint_of(template, data_args, training_args, finetuning_args, tokenizer)
    )
    if path is not None and has_tokenized_data(path):
        reports = check_tokenized(path, fingerprint)
        if training_args.do_eval and "eval" not in reports:
            raise ValueError(
                f"`tokenized_path: {path}` has no evaluation data and `do_eval` asks for some: remove the folder or "
                "name another one to tokenise anew."
            )
        dataset_module = get_dataset(
            template, model_args, data_args, training_args, STAGE, tokenizer=tokenizer, processor=processor
        )
        warn_of_oddities(reports, data_args.cutoff_len, finetuning_args.solopo_view)
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
    warn_of_oddities(load["reports"], data_args.cutoff_len, finetuning_args.solopo_view)
    if path is not None and training_args.should_save:
        save_tokenized(path, dataset_module, load["reports"], fingerprint)
    return dataset_module, load["reports"]


def warn_of_oddities(reports: dict[str, list[DataReport]], cutoff_len: int, view: str) -> None:
    """Warnings for what a good part of a data set's examples have in common: most of all, that they are dropped."""
    for split, split_reports in reports.items():
        for report in split_reports:
            for name, counts in report.data_sets.items():
                for sentence in counts.warnings(name, split, cutoff_len, view):
                    logger.warning_rank0(sentence)


@contextmanager
def _loading(finetuning_args):
    token = _load.set({"finetuning_args": finetuning_args, "reports": {}})
    try:
        yield _load.get()
    finally:
        _load.reset(token)

"""Replacements in the host's data loading: each hands over to `data/`."""

import inspect
from collections.abc import Callable
from functools import wraps

import pyarrow as pa
from datasets import Dataset, Features
from datasets.exceptions import DatasetGenerationError
from llamafactory.data.parser import get_dataset_list

from .. import STAGE
from ..data import converter, processor
from ..data.entries import EXAMPLE, FORMAT, check_columns, check_entry, check_types, wrong_stage_sentence
from ..data.filtering import filter_dataset
from ..data.loading import DISK_FULL, current_load
from ..data.tables import as_table


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
        load, split = current_load(), "eval" if call.get("is_eval") else "train"

        def drop(mapped: Dataset) -> Dataset:
            data_args = call["data_args"]
            # A part that is split off at random may have few examples of a small data set.
            all_needed = split == "train" or data_args.val_size == 0
            kept, report = filter_dataset(
                mapped, data_args.cutoff_len, load.sequences, load.overlong, split, all_needed
            )
            load.reports.setdefault(split, []).append(report)
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

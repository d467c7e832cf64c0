"""Loading the stage's data through the host, or from `tokenized_path`."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import datasets.config

from .. import STAGE
from ..host.imports import get_dataset, has_tokenized_data
from ..host.log import logger
from .sequences import Sequences
from .summary import DataReport
from .tokenized import check_tokenized, fingerprint_of, save_tokenized


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Load:
    """What the replacements in the host's loading (`hooks/data.py`) need, and the reports that they leave by split."""

    sequences: Sequences
    overlong: str
    reports: dict[str, list[DataReport]] = field(default_factory=dict)


# The host's functions between `load_data` and our replacements know nothing of it.
_load: ContextVar[Load] = ContextVar("solopo_load")


def current_load() -> Load:
    """The load in progress."""
    return _load.get()


@contextmanager
def _loading(load: Load) -> Iterator[Load]:
    token = _load.set(load)
    try:
        yield load
    finally:
        _load.reset(token)


def load_data(
    template, model_args, data_args, training_args, finetuning_args, sequences: Sequences, tokenizer, processor=None
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

    with _loading(Load(sequences, finetuning_args.solopo_overlong)) as load:
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
    warn_of_oddities(load.reports, data_args.cutoff_len, finetuning_args.solopo_view)
    if path is not None and training_args.should_save:
        save_tokenized(path, dataset_module, load.reports, fingerprint)
    return dataset_module, load.reports


def warn_of_oddities(reports: dict[str, list[DataReport]], cutoff_len: int, view: str) -> None:
    """Warnings for what a good part of a data set's examples have in common: most of all, that they are dropped."""
    for split, split_reports in reports.items():
        for report in split_reports:
            for name, counts in report.data_sets.items():
                for sentence in counts.warnings(name, split, cutoff_len, view):
                    logger.warning_rank0(sentence)

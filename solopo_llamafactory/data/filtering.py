"""Dropping examples, and counting them by reason."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from .drops import DataSetCounts
from .sequences import TOKEN_COLUMNS, Lengths, Sequences
from .summary import DataReport


def filter_dataset(
    dataset: Dataset,
    cutoff_len: int,
    sequences: Sequences,
    overlong: str = "drop",
    split: str = "train",
    all_needed: bool = True,
) -> tuple[Dataset, DataReport]:
    """Drop the rows with a `drop_reason` and those over `cutoff_len`, and count both.

    Only sequences that are trained on must fit: long + chosen and short + either answer by default.

    Args:
        dataset: the processor's rows.
        cutoff_len: tokens of a prompt with its answer.
        sequences: what is trained.
        overlong: `solopo_overlong`.
        split: the name to call it by.
        all_needed: whether a data set of the split that is lost as a whole is an error.

    Raises:
        ValueError: when nothing is left of the split or of one of its data sets, or at the first over-long row with
            `solopo_overlong: error`.
    """
    lengths = {column: _list_lengths(dataset, column) for column in TOKEN_COLUMNS}
    longest = sequences.longest(Lengths(*lengths.values()))

    reasons, names = dataset["drop_reason"][:], np.array(dataset["data_set"][:])
    for i in np.flatnonzero(longest > cutoff_len):
        if reasons[i] is not None:
            continue
        if overlong == "error":
            raise ValueError(
                f"Example `{dataset[int(i)]['id']}` of data set `{names[i]}` has {longest[i]:.0f} tokens, more than "
                f"`cutoff_len: {cutoff_len}`: raise cutoff_len, or set `solopo_overlong: drop`."
            )
        reasons[i] = "over-long"

    data_sets = {
        name: _counts_of(dataset, np.flatnonzero(names == name), reasons, lengths, longest)
        for name in dict.fromkeys(names.tolist())
    }
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    lost = [name for name, counts in data_sets.items() if counts.num_dropped == counts.total]
    if lost and (all_needed or not kept):
        raise ValueError(" ".join(data_sets[name].loss(name, split, cutoff_len) for name in lost))
    dataset = dataset.select(kept)
    chat_tokens = _count(token for tokens in dataset["chat_tokens"] for token in tokens)
    report = DataReport(
        _count(reasons), {column: values[kept].tolist() for column, values in lengths.items()}, chat_tokens, data_sets
    )
    return dataset.select_columns(["id", "gold", *TOKEN_COLUMNS]), report


def _counts_of(
    dataset: Dataset, rows: np.ndarray, reasons: list[str | None], lengths: dict[str, np.ndarray], longest: np.ndarray
) -> DataSetCounts:
    """The counts of one data set, whose rows are given by number."""
    values: dict[str, str] = {}
    for i, value in zip(rows, dataset.select(rows)["drop_value"]):
        if value is not None:
            values.setdefault(reasons[i], value)
    kept = np.array([i for i in rows if reasons[i] is None], dtype=int)
    short, long = lengths["short_prompt_ids"][kept], lengths["long_prompt_ids"][kept]
    alike = dataset.select(kept[short == long]).select_columns(["short_prompt_ids", "long_prompt_ids"])
    return DataSetCounts(
        total=len(rows),
        dropped=_count(reasons[i] for i in rows),
        values=values,
        longest=float(longest[rows].max()),
        longer_short=int((short > long).sum()),
        equal=sum(row["short_prompt_ids"] == row["long_prompt_ids"] for row in alike),
        rendered=sum(dataset.select(kept)["is_rendered"]),
    )


def _count(values: Iterable[str | None]) -> dict[str, int]:
    """How often each text occurs, the commonest first."""
    return dict(Counter(value for value in values if value is not None).most_common())


def _list_lengths(dataset: Dataset, column: str) -> np.ndarray:
    values = pc.list_value_length(dataset.with_format("arrow")[:][column])
    return pc.fill_null(values, 0).to_numpy().astype(float)

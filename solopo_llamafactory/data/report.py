"""Dropping examples, counting them by reason, and the summary that a person reads before training starts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from .cost import Lengths
from .drops import DataSetCounts, list_dropped
from .packing import sequences_of
from .processor import TOKEN_COLUMNS


QUANTILES = (0, 0.1, 0.5, 0.9, 1)


@dataclass
class DataReport:
    """What a split holds after dropping.

    Args:
        dropped: number of examples by reason.
        lengths: the kept examples' tokens by column (`short_prompt_ids`, ...).
        chat_tokens: number of kept examples by control token in their texts.
        data_sets: what each of the split's data sets holds and lost, by its name.
    """

    dropped: dict[str, int]
    lengths: dict[str, list[int]]
    chat_tokens: dict[str, int] = field(default_factory=dict)
    data_sets: dict[str, DataSetCounts] = field(default_factory=dict)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "DataReport":
        """The report that `to_dict` wrote."""
        data_sets = {name: DataSetCounts(**counts) for name, counts in values["data_sets"].items()}
        return cls(**{**values, "data_sets": data_sets})

    @property
    def num_kept(self) -> int:
        return len(self.lengths["chosen_ids"])

    def as_lengths(self) -> Lengths:
        return Lengths(*(np.array(self.lengths[column], dtype=float) for column in TOKEN_COLUMNS))

    def longest_row(
        self, sequences: dict[str, tuple[str, str]], batch_size: int, packed: bool, pad_to_multiple_of: int = 1
    ) -> int:
        """Tokens of the longest batch that examples of this split can make, packed into one row or padded."""
        lengths = {column: np.array(values) for column, values in self.lengths.items()}
        if not packed:
            longest = max((lengths[prompt] + lengths[answer]).max() for prompt, answer in sequences.values())
            return int(batch_size * len(sequences) * longest)
        rows = np.zeros(self.num_kept)
        seen = set()
        for prompt, answer in sequences.values():
            if prompt in seen:
                rows += lengths[answer]
            else:
                rows += np.ceil((lengths[prompt] + lengths[answer]) / pad_to_multiple_of) * pad_to_multiple_of
                seen.add(prompt)
        return int(np.sort(rows)[-batch_size:].sum())


def filter_dataset(
    dataset: Dataset, cutoff_len: int, finetuning_args, split: str = "train", all_needed: bool = True
) -> tuple[Dataset, DataReport]:
    """Drop the rows with a `drop_reason` and those over `cutoff_len`, and count both.

    Only sequences that are trained on must fit: long + chosen and short + either answer by default.

    Args:
        dataset: the processor's rows.
        cutoff_len: tokens of a prompt with its answer.
        finetuning_args: the stage's arguments.
        split: the name to call it by.
        all_needed: whether a data set of the split that is lost as a whole is an error.

    Raises:
        ValueError: when nothing is left of the split or of one of its data sets, or at the first over-long row with
            `solopo_overlong: error`.
    """
    lengths = {column: _list_lengths(dataset, column) for column in TOKEN_COLUMNS}
    sequences = sequences_of(finetuning_args.solopo_view, finetuning_args.solopo_align)
    longest = np.max([lengths[prompt] + lengths[answer] for prompt, answer in sequences.values()], axis=0)

    reasons, names = dataset["drop_reason"][:], np.array(dataset["data_set"][:])
    for i in np.flatnonzero(longest > cutoff_len):
        if reasons[i] is not None:
            continue
        if finetuning_args.solopo_overlong == "error":
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
    return dataset.select_columns(["id", *TOKEN_COLUMNS]), report


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


def summary(report: DataReport, split: str) -> str:
    """Several lines: kept and dropped, length quantiles and rho."""
    lengths = report.as_lengths()
    values = {reason: value for counts in report.data_sets.values() for reason, value in counts.values.items()}
    listed = list_dropped(report.dropped, values)
    lines = [f"SoLoPO {split} data: {report.num_kept} examples kept, {sum(report.dropped.values())} dropped"]
    lines[0] += f": {listed}." if listed else "."
    if report.chat_tokens:
        listed = ", ".join(f"{token} ({count})" for token, count in report.chat_tokens.items())
        lines.append(
            f"examples whose texts hold control tokens: {listed}; as in the host's other stages, the model reads them "
            "as its own marks, so remove them where they are meant as text"
        )

    rows = {
        "short prompt": lengths.short_prompt,
        "long prompt": lengths.long_prompt,
        "chosen": lengths.chosen,
        "rejected": lengths.rejected,
    }
    lines.append(f"{'tokens':<14}" + "".join(f"{f'{quantile:.0%}':>8}" for quantile in QUANTILES))
    for name, values in rows.items():
        lines.append(f"{name:<14}" + "".join(f"{value:>8.0f}" for value in np.quantile(values, QUANTILES)))
    lines.append(f"mean rho (short prompt / long prompt): {np.mean(lengths.short_prompt / lengths.long_prompt):.3f}")
    return "\n".join(lines)


def _list_lengths(dataset: Dataset, column: str) -> np.ndarray:
    values = pc.list_value_length(dataset.with_format("arrow")[:][column])
    return pc.fill_null(values, 0).to_numpy().astype(float)

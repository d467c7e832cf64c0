"""Dropping examples, counting them by reason, and the summary that a person reads before training starts."""

from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from .cost import Lengths
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
    """

    dropped: dict[str, int]
    lengths: dict[str, list[int]]
    chat_tokens: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict:
        return asdict(self)

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


def filter_dataset(dataset: Dataset, cutoff_len: int, finetuning_args) -> tuple[Dataset, DataReport]:
    """Drop the rows with a `drop_reason` and those over `cutoff_len`, and count both.

    Only sequences that are trained on must fit: long + chosen and short + either answer by default.

    Raises:
        ValueError: when nothing is left, or at the first over-long row with `solopo_overlong: error`.
    """
    lengths = {column: _list_lengths(dataset, column) for column in TOKEN_COLUMNS}
    sequences = sequences_of(finetuning_args.solopo_view, finetuning_args.solopo_align)
    longest = np.max([lengths[prompt] + lengths[answer] for prompt, answer in sequences.values()], axis=0)

    reasons = dataset["drop_reason"][:]
    for i in np.flatnonzero(longest > cutoff_len):
        if reasons[i] is not None:
            continue
        if finetuning_args.solopo_overlong == "error":
            raise ValueError(
                f"Example `{dataset[int(i)]['id']}` has {longest[i]:.0f} tokens, more than `cutoff_len: {cutoff_len}`: "
                "raise cutoff_len, or set `solopo_overlong: drop`."
            )
        reasons[i] = "over-long"

    kept = [i for i, reason in enumerate(reasons) if reason is None]
    dropped = dict(Counter(reason for reason in reasons if reason is not None).most_common())
    if not kept:
        listed = ", ".join(f"{reason} ({count})" for reason, count in dropped.items())
        raise ValueError(
            f"No example is left of {len(reasons)}: {listed or 'the dataset is empty'}; `cutoff_len` is {cutoff_len} "
            f"and the longest has {longest.max(initial=0):.0f} tokens."
        )
    dataset = dataset.select(kept)
    chat_tokens = Counter(token for tokens in dataset["chat_tokens"] for token in tokens)
    report = DataReport(
        dropped,
        {column: values[kept].tolist() for column, values in lengths.items()},
        dict(chat_tokens.most_common()),
    )
    return dataset.remove_columns(["chat_tokens", "drop_reason"]), report


def summary(report: DataReport, split: str) -> str:
    """Several lines: kept and dropped, length quantiles and rho."""
    lengths = report.as_lengths()
    listed = ", ".join(f"{reason} ({count})" for reason, count in report.dropped.items())
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

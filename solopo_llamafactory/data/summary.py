"""What is left of a split after dropping, and the summary that a person reads before training starts."""

from dataclasses import asdict, dataclass, field

import numpy as np

from .drops import DataSetCounts, list_dropped
from .sequences import TOKEN_COLUMNS, Lengths


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

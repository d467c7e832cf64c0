"""What to say of dropped examples: how many a data set lost, why, and what to change."""

import re
from dataclasses import dataclass


WARN_FROM = 0.2  # share of a data set's examples

# Reason -> what to change. A reason that needs no advice beside itself is not listed.
ADVICE = {
    r"over-long": "raise `cutoff_len` (it is {cutoff_len}, and the longest example has {longest:.0f} tokens)",
    r"no (?!query).*|empty .*": "fill the field, or name the right one under `columns` in dataset_info.json",
    r".* is not text|history is not .*|.* without text|.* not an object": "write text there",
    r"chosen equals rejected": "write two answers that differ",
    r".* odd role": "name the roles under `tags` in dataset_info.json, or write user and assistant",
    r".* odd order|.* does not end with the user": "let user and assistant take turns, the user last",
    r".* beside a `\w+` column": "write it into the messages, and remove the key from `columns` in dataset_info.json",
    r".* is a bare date.*": "write a sentence around it, such as `The answer is 1960-01-31.`",
    r"has \w+": "`stage: solopo` trains on text only: remove the media, or leave these examples out",
    r".* holds the placeholder .*": "choose a `template` without media tokens, or write the word in another way",
    r".* tokens merge .*|.* tokens depend .*": "choose another `template`, or write the answers without white space before them",
    r".* nothing but thoughts": "set `enable_thinking: true`, or write an answer after the thoughts",
    r".* tokenizer does not know": "choose a `model_name_or_path` whose tokenizer knows them",
    r"the template changes .*": "write {{{{idx}}}} and the like in another way",
    r".* function call": "write function calls as JSON with `name` and `arguments`",
}


@dataclass
class DataSetLoss:
    """What a data set of a split lost.

    Args:
        total: number of its examples before any was dropped.
        dropped: number of examples by reason.
        longest: tokens of its longest sequence, kept or not.
    """

    total: int
    dropped: dict[str, int]
    longest: float

    @property
    def num_dropped(self) -> int:
        return sum(self.dropped.values())

    def sentence(self, name: str, split: str, cutoff_len: int) -> str:
        """Counts, data set, split and reasons, and what to change."""
        share = f"{self.num_dropped} of" if self.num_dropped < self.total else "All"
        listed = ", ".join(f"{reason} ({count})" for reason, count in self.dropped.items())
        advice = dict.fromkeys(filter(None, map(advice_for, self.dropped)))
        to_do = "; ".join(advice).format(cutoff_len=cutoff_len, longest=self.longest)
        return (
            f"{share} {self.total} examples of data set `{name}` are dropped from the {split} data: {listed}"
            f"{': ' if to_do else ''}{to_do}."
        )


def advice_for(reason: str) -> str:
    """What to change, or nothing."""
    return next((advice for pattern, advice in ADVICE.items() if re.fullmatch(pattern, reason)), "")


def warnings_of(losses: dict[str, DataSetLoss], split: str, cutoff_len: int) -> list[str]:
    """A sentence for each data set that lost `WARN_FROM` of its examples or more."""
    return [
        loss.sentence(name, split, cutoff_len)
        for name, loss in losses.items()
        if loss.num_dropped >= WARN_FROM * loss.total and loss.num_dropped
    ]

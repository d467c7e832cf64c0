"""What to say of dropped examples: how many a data set lost, why, and what to change."""

import re
from dataclasses import dataclass


WARN_FROM = 0.2  # share of a data set's examples
COLUMNS_FROM = 0.5  # from which the columns are to blame, and not the examples: some contexts are short by themselves

# Reason -> what to change. A reason that needs no advice beside itself is not listed.
ADVICE = {
    r"over-long": "raise `cutoff_len` (it is {cutoff_len}, and the longest example has {longest:.0f} tokens)",
    r"no (?!query).*|empty .*": "fill the field, or name the right one under `columns` in dataset_info.json",
    r".* is not text|history is not .*|.* without text|.* not an object": "write text there (an answer may be one message of the assistant)",
    r".* holds messages before the answer": "leave the answer alone there, and write the messages before it into both prompts",
    r".* is no message of the assistant": "write the answer as text, or with the role assistant",
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
class DataSetCounts:
    """What a data set of a split holds and lost.

    Args:
        total: number of its examples before any was dropped.
        dropped: number of examples by reason.
        values: where the first such example stands, with the wrong value if there is one, by reason.
        longest: tokens of its longest sequence, kept or not.
        longer_short: number of kept examples whose short prompt is the longer one.
        equal: number of kept examples whose prompts are the same.
        rendered: number of kept examples with a prompt that a chat template has rendered before.
    """

    total: int
    dropped: dict[str, int]
    values: dict[str, str]
    longest: float
    longer_short: int = 0
    equal: int = 0
    rendered: int = 0

    @property
    def num_dropped(self) -> int:
        return sum(self.dropped.values())

    def loss(self, name: str, split: str, cutoff_len: int) -> str:
        """A sentence with counts, data set, split and reasons, and what to change."""
        share = f"{self.num_dropped} of" if self.num_dropped < self.total else "All"
        listed = list_dropped(self.dropped, self.values)
        advice = dict.fromkeys(filter(None, map(advice_for, self.dropped)))
        to_do = "; ".join(advice).format(cutoff_len=cutoff_len, longest=self.longest)
        return (
            f"{share} {self.total} examples of data set `{name}` are dropped from the {split} data: {listed}"
            f"{': ' if to_do else ''}{to_do}."
        )

    def warnings(self, name: str, split: str, cutoff_len: int, view: str) -> list[str]:
        """A sentence for each thing that a good part of the examples have in common.

        The two prompts are compared only for the view `both`: the others train on one of them.
        """
        compared = view == "both"
        kept = self.total - self.num_dropped
        place = f"rows of data set `{name}` in the {split} data"
        counted = [
            (self.num_dropped, WARN_FROM * self.total, self.loss(name, split, cutoff_len)),
            (
                self.longer_short * compared,
                COLUMNS_FROM * kept,
                f"The short prompt is longer than the long one in {self.longer_short} of {kept} {place}: exchange the columns "
                "of `prompt` and `long_prompt` in dataset_info.json.",
            ),
            (
                self.equal * compared,
                COLUMNS_FROM * kept,
                f"The short prompt equals the long one in {self.equal} of {kept} {place}, which teaches nothing about long "
                "contexts: name the column that holds the long context as `long_prompt` in dataset_info.json.",
            ),
            (
                self.rendered,
                WARN_FROM * kept,
                f"A chat template has rendered the prompts before in {self.rendered} of {kept} {place}, and `template` would "
                "render them once more: write the user's text alone, or a list of messages, or set `template: empty`.",
            ),
        ]
        return [sentence for count, least, sentence in counted if count and count >= least]


def list_dropped(dropped: dict[str, int], values: dict[str, str]) -> str:
    """The reasons with their counts and an example."""
    return ", ".join(
        f"{reason} ({count}{f', such as {values[reason]}' if reason in values else ''})"
        for reason, count in dropped.items()
    )


def advice_for(reason: str) -> str:
    """What to change, or nothing."""
    return next((advice for pattern, advice in ADVICE.items() if re.fullmatch(pattern, reason)), "")

"""Which sequences an example is trained on, and what follows from that: columns, twins, tokens and digests.

A sequence is a prompt with one answer to it. Which ones there are is decided once, from `solopo_view` and `solopo_align`,
and passed on as `Sequences`. Shapes: E examples.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


DIGEST_SIZE = 16  # bytes
Pair = tuple[tuple[int, ...], tuple[int, ...]]  # token ids of a prompt and an answer


class Example(NamedTuple):
    """Token ids of one preference pair on both contexts."""

    short_prompt_ids: list[int]
    long_prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


TOKEN_COLUMNS = Example._fields


@dataclass(frozen=True)
class Lengths:
    """Token counts of E examples, each of shape (E,), in the order of `TOKEN_COLUMNS`."""

    short_prompt: np.ndarray
    long_prompt: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray

    def of(self, column: str) -> np.ndarray:
        """The counts of one of `TOKEN_COLUMNS`."""
        return getattr(self, column.removesuffix("_ids"))


class TrainedSequence(NamedTuple):
    """One sequence: its name, the columns of its prompt and its answer, and its twin.

    `short_twin` is the name of the sequence with the same answer on the short context, whose reward the alignment lays
    beside this one's; None for a sequence that is not aligned.
    """

    name: str
    prompt: str
    answer: str
    short_twin: str | None = None


@dataclass(frozen=True)
class Sequences:
    """The sequences of every example, in the order that all tensors of S sequences have."""

    members: tuple[TrainedSequence, ...]

    def __iter__(self) -> Iterator[TrainedSequence]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.members]

    @property
    def long_twins(self) -> dict[str, str]:
        """Name of a short sequence -> name of the long one that it is aligned with."""
        return {each.short_twin: each.name for each in self.members if each.short_twin is not None}

    @property
    def answers_of(self) -> dict[str, list[str]]:
        """Column of a prompt -> columns of the answers that follow it."""
        answers: dict[str, list[str]] = {}
        for each in self.members:
            answers.setdefault(each.prompt, []).append(each.answer)
        return answers

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        used = {column for each in self.members for column in (each.prompt, each.answer)}
        return [column for column in TOKEN_COLUMNS if column in used]

    def measured_from(self, reference: str) -> "Sequences":
        """Those whose reference log-probs are needed: with `solopo_reference: short` no long twins.

        Under `solopo_view` there are none, so the pair is measured on its own context.
        """
        return Sequences(tuple(each for each in self.members if reference == "matched" or each.short_twin is None))

    def token_ids(self, example: Example) -> list[Pair]:
        """Prompt and answer of each sequence of an example, S of them."""
        return [(tuple(getattr(example, each.prompt)), tuple(getattr(example, each.answer))) for each in self.members]

    def digests(self, example: Mapping[str, Any]) -> list[bytes]:
        """What each sequence of an example (a row with `columns`) is found again by, S times 16 bytes."""
        return [sequence_digest(example[each.prompt], example[each.answer]) for each in self.members]

    def longest(self, lengths: Lengths, prompt: str | None = None) -> np.ndarray:
        """Tokens of each example's longest sequence, (E,): of all, or of those with one of the prompts' columns."""
        members = [each for each in self.members if prompt in (None, each.prompt)]
        return np.max([lengths.of(each.prompt) + lengths.of(each.answer) for each in members], axis=0)

    def row_tokens(self, lengths: Lengths, pad_to_multiple_of: int = 1) -> np.ndarray:
        """Tokens of each example in a packed row, (E,), see `packing.pack`; fewer where contexts are equal."""
        tokens = np.zeros(len(lengths.chosen))
        for prompt, (first, *others) in self.answers_of.items():
            tokens += np.ceil((lengths.of(prompt) + lengths.of(first)) / pad_to_multiple_of) * pad_to_multiple_of
            tokens += sum(lengths.of(answer) for answer in others)
        return tokens

    def longest_row(self, lengths: Lengths, batch_size: int, packed: bool, pad_to_multiple_of: int = 1) -> int:
        """Most tokens of a forward pass that the examples can make: a packed row, or a group of padded ones."""
        if packed:
            return int(np.sort(self.row_tokens(lengths, pad_to_multiple_of))[-batch_size:].sum())
        of_group = [len(answers) * self.longest(lengths, prompt).max() for prompt, answers in self.answers_of.items()]
        return int(batch_size * max(of_group))


def sequences_of(view: str, align: str = "chosen") -> Sequences:
    """The sequences that `solopo_view` and `solopo_align` train on.

    The pair has the plain names `chosen` and `rejected`, on whichever context it is; long twins are called `chosen_long` and
    `rejected_long`.
    """
    prompt = "long_prompt_ids" if view == "long" else "short_prompt_ids"
    pair = [TrainedSequence(answer, prompt, f"{answer}_ids") for answer in ("chosen", "rejected")]
    aligned = {"chosen": ("chosen",), "both": ("chosen", "rejected")}[align] if view == "both" else ()
    twins = [TrainedSequence(f"{answer}_long", "long_prompt_ids", f"{answer}_ids", answer) for answer in aligned]
    return Sequences((*pair, *twins))


def sequence_digest(prompt_ids, answer_ids) -> bytes:
    """What a sequence is found again by, 16 bytes.

    Args:
        prompt_ids, answer_ids: sequences of int.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    for token_ids in (prompt_ids, answer_ids):
        digest.update(len(token_ids).to_bytes(8, "little"))
        digest.update(np.asarray(token_ids, dtype=np.int32).tobytes())
    return digest.digest()

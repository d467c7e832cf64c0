"""Examples -> one packed row.

A row holds every sequence of a device batch, each token once: a prompt is followed by all answers to it.

    [ short prompt | chosen | rejected ] [ long prompt | chosen ]  [ next example ... ]

Positions restart at each prompt, and the second answer's positions continue from its prompt's end. Which tokens see
which is written down as spans: a span's tokens see each other causally and, before that, all of one prefix of the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .sequences import Example, Sequences


class Span(NamedTuple):
    """Tokens [start, end) of the row, which see [prefix_start, prefix_end) and, causally, themselves."""

    start: int
    end: int
    prefix_start: int = 0
    prefix_end: int = 0


@dataclass(frozen=True)
class RowLayout:
    """The spans of a row, which cover it in order. Travels to the attention function as a keyword argument."""

    spans: tuple[Span, ...]

    @property
    def attention_pairs(self) -> int:
        """Number of (query, key) pairs that attention computes."""
        pairs = 0
        for start, end, prefix_start, prefix_end in self.spans:
            size = end - start
            pairs += size * (prefix_end - prefix_start) + size * (size + 1) // 2
        return pairs


@dataclass(frozen=True)
class PackedRow:
    """A device batch of N examples with S sequences each, as one row of T tokens with A answer tokens.

    Tensors are int64: input_ids_1T, position_ids_1T; logit_positions_A (where in the row the answer tokens are
    predicted), targets_A (the answer tokens); answer_lengths_NS.
    """

    input_ids_1T: Tensor
    position_ids_1T: Tensor
    logit_positions_A: Tensor
    targets_A: Tensor
    answer_lengths_NS: Tensor
    layout: RowLayout


class _RowBuilder:
    def __init__(self, pad_to_multiple_of: int, pad_token_id: int) -> None:
        self.pad_to_multiple_of, self.pad_token_id = pad_to_multiple_of, pad_token_id
        self.input_ids: list[int] = []
        self.position_ids: list[int] = []
        self.spans: list[Span] = []

    def append(self, token_ids: Sequence[int], position: int) -> int:
        start = len(self.input_ids)
        self.input_ids.extend(token_ids)
        self.position_ids.extend(range(position, position + len(token_ids)))
        return start

    def add_prompt(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]]) -> list[list[int]]:
        """Append a prompt and its answers. Returns, for each answer, the positions that predict its tokens."""
        prompt_start = self.append(prompt_ids, 0)
        prompt_end = prompt_start + len(prompt_ids)
        logit_positions = []
        for i, answer_ids in enumerate(answers):
            start = self.append(answer_ids, len(prompt_ids))
            end = start + len(answer_ids)
            if i == 0:  # it directly follows its prompt, so the two are one plain causal sequence
                filling = -(end - prompt_start) % self.pad_to_multiple_of  # after the answer, so nothing sees it
                self.input_ids.extend([self.pad_token_id] * filling)
                self.position_ids.extend([end - prompt_start - 1] * filling)  # none that the model does not know
                self.spans.append(Span(prompt_start, end + filling))
            else:
                self.spans.append(Span(start, end, prompt_start, prompt_end))
            logit_positions.append([prompt_end - 1, *range(start, end - 1)])
        return logit_positions


def pack(
    examples: Sequence[Example],
    sequences: Sequences,
    pad_to_multiple_of: int = 1,
    pad_token_id: int = 0,
) -> PackedRow:
    """Pack examples into one row; a prompt is computed once, and so is an answer to it that occurs twice.

    Prompts and answers must not be empty: an answer's first token is predicted by its prompt's last.

    Args:
        examples: the device batch.
        sequences: what each example is trained on.
        pad_to_multiple_of: of tokens, for each prompt with its first answer. Nothing sees the filling.
        pad_token_id: what the filling is made of.
    """
    builder = _RowBuilder(pad_to_multiple_of, pad_token_id)
    logit_positions, targets, lengths = [], [], []
    for example in examples:
        pairs = sequences.token_ids(example)
        answers_of = {}  # prompt -> its answers, each once (a long prompt may equal the short one)
        for prompt, answer in pairs:
            answers = answers_of.setdefault(prompt, [])
            if answer not in answers:
                answers.append(answer)

        positions_of = {}
        for prompt, answers in answers_of.items():
            for answer, positions in zip(answers, builder.add_prompt(prompt, answers)):
                positions_of[prompt, answer] = positions

        for prompt, answer in pairs:
            logit_positions += positions_of[prompt, answer]
            targets += answer
        lengths.append([len(answer) for _, answer in pairs])

    return PackedRow(
        input_ids_1T=torch.tensor([builder.input_ids]),
        position_ids_1T=torch.tensor([builder.position_ids]),
        logit_positions_A=torch.tensor(logit_positions),
        targets_A=torch.tensor(targets),
        answer_lengths_NS=torch.tensor(lengths),
        layout=RowLayout(tuple(builder.spans)),
    )

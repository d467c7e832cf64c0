"""Examples -> rows of one sequence each, for models that cannot take a packed row.

    short rows:  [ short prompt | chosen ]      long rows:  [ long prompt | chosen                    ]
                 [ short prompt | rejected ]                [ long prompt | chosen of the next example ]

Rows are padded on the right, where causal layers do not look, so that a row's numbers do not depend on the rows beside it:
on the left, padding would move the borders of the chunks in which layers with a state work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .sequences import Example, Pair, Sequences


@dataclass(frozen=True)
class PaddedRows:
    """A group of B rows of W tokens.

    int64: input_ids_BW, attention_mask_BW, position_ids_BW; logit_positions_A (where in the flattened (B * W) rows the
    answer tokens are predicted), targets_A, and places_A (where these tokens stand among all of the batch).
    """

    input_ids_BW: Tensor
    attention_mask_BW: Tensor
    position_ids_BW: Tensor
    logit_positions_A: Tensor
    targets_A: Tensor
    places_A: Tensor


@dataclass(frozen=True)
class PaddedBatch:
    """A device batch of N examples with S sequences each, each sequence once.

    A group of rows for each prompt of an example, so that short rows are not padded to the length of long ones; the group
    of most tokens comes first. int64: order_A (where among the groups' answer tokens, one group after another, stands
    each of the batch's), targets_A, answer_lengths_NS.
    """

    groups: tuple[PaddedRows, ...]
    order_A: Tensor
    targets_A: Tensor
    answer_lengths_NS: Tensor


def pad(examples: Sequence[Example], sequences: Sequences, pad_token_id: int) -> PaddedBatch:
    """One row for each sequence of each example; equal ones, such as of equal contexts, share one.

    The number of groups follows from `sequences` alone: processes that share weights must run alike many forwards.
    """
    pairs = [pair for example in examples for pair in sequences.token_ids(example)]
    group_of = {}
    for pair, each in zip(pairs, [*sequences] * len(examples)):
        group_of.setdefault(pair, each.prompt)
    grouped = [[pair for pair in group_of if group_of[pair] == prompt] for prompt in sequences.answers_of]
    if not grouped[-1]:  # every long context equals its short one
        grouped[-1].append(grouped[0].pop())
    groups = [pad_rows(group, pairs, pad_token_id) for group in grouped]
    groups.sort(key=lambda rows: rows.input_ids_BW.numel(), reverse=True)
    return PaddedBatch(
        groups=tuple(groups),
        order_A=torch.cat([rows.places_A for rows in groups]).argsort(),
        targets_A=torch.tensor([token for _, answer in pairs for token in answer]),
        answer_lengths_NS=torch.tensor([len(answer) for _, answer in pairs]).view(len(examples), len(sequences)),
    )


def pad_rows(group: Sequence[Pair], pairs: Sequence[Pair], pad_token_id: int) -> PaddedRows:
    """Return a row for each of `group`; `pairs` are those of the whole batch."""
    rows = [torch.tensor([*prompt, *answer]) for prompt, answer in group]
    input_ids = pad_sequence(rows, batch_first=True, padding_value=pad_token_id)
    columns = torch.arange(width := input_ids.shape[1])
    attention_mask = (columns < torch.tensor([[len(row)] for row in rows])).long()
    row_of = {pair: row for row, pair in enumerate(group)}
    logit_positions, targets, places, place = [], [], [], 0
    for prompt, answer in pairs:
        if (prompt, answer) in row_of:
            first = row_of[prompt, answer] * width + len(prompt) - 1
            logit_positions += range(first, first + len(answer))
            targets += answer
            places += range(place, place + len(answer))
        place += len(answer)
    return PaddedRows(
        input_ids, attention_mask, columns * attention_mask, *map(torch.tensor, (logit_positions, targets, places))
    )

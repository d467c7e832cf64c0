"""The groups of padded rows, worked by hand, and what every process must have alike."""

import pytest
import torch

from solopo_llamafactory.data.padding import PaddedBatch, pad
from solopo_llamafactory.data.sequences import Example, sequences_of


EXAMPLE = Example(short_prompt_ids=[1, 2], long_prompt_ids=[3, 4, 5], chosen_ids=[6, 7], rejected_ids=[8])
LONG = Example([10], [11] * 9, [12], [13, 14])


def tokens_of(batch: PaddedBatch) -> list[int]:
    return [rows.input_ids_BW.numel() for rows in batch.groups]


def predicted(batch: PaddedBatch) -> list[int]:
    """The tokens after the places that predict, in the batch's order; each group's last place has none after it."""
    found = [rows.input_ids_BW.flatten().roll(-1)[rows.logit_positions_A] for rows in batch.groups]
    return torch.cat(found)[batch.order_A].tolist()


def test_by_hand():
    batch = pad([EXAMPLE], sequences_of("both"), pad_token_id=0)
    short, long = batch.groups
    assert short.input_ids_BW.tolist() == [[1, 2, 6, 7], [1, 2, 8, 0]]
    assert short.attention_mask_BW.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert short.position_ids_BW.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0]]
    assert short.logit_positions_A.tolist() == [1, 2, 5]  # the last of a row predicts its last token
    assert short.targets_A.tolist() == [6, 7, 8]
    assert long.input_ids_BW.tolist() == [[3, 4, 5, 6, 7]]
    assert long.logit_positions_A.tolist() == [2, 3] and long.targets_A.tolist() == [6, 7]
    assert batch.order_A.tolist() == [0, 1, 2, 3, 4]
    assert batch.targets_A.tolist() == [6, 7, 8, 6, 7]
    assert batch.answer_lengths_NS.tolist() == [[2, 1, 2]]


def test_the_larger_group_comes_first_and_answers_keep_their_order():
    """Short: 4 rows of 4 tokens; long: 2 rows of 10. By example, chosen, rejected, then the long chosen answer."""
    batch = pad([EXAMPLE, LONG], sequences_of("both"), pad_token_id=0)
    assert tokens_of(batch) == [2 * 10, 4 * 4]
    assert batch.groups[0].targets_A.tolist() == [6, 7, 12]
    assert batch.groups[1].targets_A.tolist() == [6, 7, 8, 12, 13, 14]
    assert batch.order_A.tolist() == [3, 4, 5, 0, 1, 6, 7, 8, 2]
    assert batch.targets_A.tolist() == predicted(batch) == [6, 7, 8, 6, 7, 12, 13, 14, 12]
    assert batch.answer_lengths_NS.tolist() == [[2, 1, 2], [1, 2, 1]]


def test_what_grouping_saves():
    """A short context of 1,132 tokens, a long one of 7,500 and answers of 64 and 27: 9,956 tokens, not 22,692."""
    example = Example([1] * 1132, [2] * 7500, [3] * 64, [4] * 27)
    batch = pad([example], sequences_of("both"), pad_token_id=0)
    assert tokens_of(batch) == [7564, 2 * 1196]
    assert sum(tokens_of(batch)) == 9956 and 3 * 7564 == 22_692


@pytest.mark.parametrize("view", ["short", "long"])
def test_one_view_is_one_group(view):
    batch = pad([EXAMPLE, LONG], sequences_of(view), pad_token_id=0)
    assert len(batch.groups) == 1
    assert batch.targets_A.tolist() == predicted(batch)


@pytest.mark.parametrize("align", ["chosen", "both"])
@pytest.mark.parametrize("count", [1, 2])
def test_equal_sequences_share_a_row_and_there_are_two_groups_all_the_same(align, count):
    """Processes gather sharded weights together: each must run two forwards, whatever its contexts are."""
    batch = pad([EXAMPLE._replace(long_prompt_ids=[1, 2])] * count, sequences_of("both", align), pad_token_id=0)
    assert [rows.input_ids_BW.tolist() for rows in batch.groups] == [[[1, 2, 6, 7]], [[1, 2, 8]]]
    assert batch.targets_A.tolist() == predicted(batch)
    assert len(batch.targets_A) == count * {"chosen": 5, "both": 6}[align]

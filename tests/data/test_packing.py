"""The packed row's layout, worked by hand, and what it must never do."""

import random

import pytest
import torch

from solopo_llamafactory.data.packing import Span, pack
from solopo_llamafactory.data.sequences import Example, sequences_of


EXAMPLE = Example(short_prompt_ids=[1, 2], long_prompt_ids=[3, 4, 5], chosen_ids=[6, 7], rejected_ids=[8])


def test_row_by_hand():
    #        0  1  2  3 | 4 | 5  6  7  8  9
    # row:   1  2  6  7   8   3  4  5  6  7
    row = pack([EXAMPLE], sequences_of("both"))
    assert row.input_ids_1T.tolist() == [[1, 2, 6, 7, 8, 3, 4, 5, 6, 7]]
    assert row.position_ids_1T.tolist() == [[0, 1, 2, 3, 2, 0, 1, 2, 3, 4]]
    assert row.layout.spans == (Span(0, 4), Span(4, 5, 0, 2), Span(5, 10))
    # chosen after short: predicted at 1, 2; rejected: at 1; chosen after long: at 7, 8
    assert row.logit_positions_A.tolist() == [1, 2, 1, 7, 8]
    assert row.targets_A.tolist() == [6, 7, 8, 6, 7]
    assert row.answer_lengths_NS.tolist() == [[2, 1, 2]]
    # causal over 4 and 5, and one query over two prompt keys and itself
    assert row.layout.attention_pairs == 10 + 3 + 15


def test_both_answers_share_the_long_prompt():
    row = pack([EXAMPLE], sequences_of("both", align="both"))
    assert row.input_ids_1T.tolist() == [[1, 2, 6, 7, 8, 3, 4, 5, 6, 7, 8]]
    assert row.layout.spans[2:] == (Span(5, 10), Span(10, 11, 5, 8))


@pytest.mark.parametrize(("view", "prompt"), [("short", [1, 2]), ("long", [3, 4, 5])])
def test_one_view_is_the_pair_on_one_prompt(view, prompt):
    row = pack([EXAMPLE], sequences_of(view))
    assert row.input_ids_1T.tolist() == [[*prompt, 6, 7, 8]]
    assert sequences_of(view).names == ["chosen", "rejected"]


def test_equal_contexts_are_computed_once():
    """x_long = x_short must give the very same log-prob, not one that rounds the same."""
    row = pack([EXAMPLE._replace(long_prompt_ids=[1, 2])], sequences_of("both"))
    assert row.input_ids_1T.tolist() == [[1, 2, 6, 7, 8]]
    assert row.logit_positions_A.tolist() == [1, 2, 1, 1, 2]


def test_filling_by_hand():
    """Each prompt with its first answer is filled up to a multiple; other answers still follow the prompt alone."""
    #        0  1  2  3  4  5 | 6 | 7  8  9 10 11 12
    # row:   1  2  6  7  -  -   8   3  4  5  6  7  -
    row = pack([EXAMPLE], sequences_of("both"), pad_to_multiple_of=3, pad_token_id=99)
    assert row.input_ids_1T.tolist() == [[1, 2, 6, 7, 99, 99, 8, 3, 4, 5, 6, 7, 99]]
    assert row.position_ids_1T.tolist() == [[0, 1, 2, 3, 3, 3, 2, 0, 1, 2, 3, 4, 4]]
    assert row.layout.spans == (Span(0, 6), Span(6, 7, 0, 2), Span(7, 13))
    assert row.logit_positions_A.tolist() == [1, 2, 1, 9, 10]
    assert row.targets_A.tolist() == [6, 7, 8, 6, 7]


def test_examples_do_not_meet():
    rng = random.Random(0)
    examples = [Example(*([rng.randrange(99) for _ in range(rng.randint(1, 9))] for _ in range(4))) for _ in range(5)]
    row = pack(examples, sequences_of("both", "both"))
    sizes = [pack([example], sequences_of("both", "both")).input_ids_1T.shape[1] for example in examples]
    borders = torch.tensor([0, *sizes]).cumsum(0).tolist()
    assert row.input_ids_1T.shape[1] == borders[-1]
    for span in row.layout.spans:
        home = next(i for i, border in enumerate(borders) if span.start < border)
        assert span.end <= borders[home]
        if span.prefix_end:
            assert borders[home - 1] <= span.prefix_start < span.prefix_end <= span.start
    assert [span.start for span in row.layout.spans[1:]] == [span.end for span in row.layout.spans[:-1]]

"""The alignment term: its value by hand, and where its gradient goes."""

import pytest
from torch import tensor

from solopo_llamafactory.train.alignment import alignment_slope, capped_share, reward_alignment


def test_alignment_by_hand():
    short, long = tensor([-1.0, 0.5, 2.0]), tensor([-1.5, 0.5, 5.0])
    assert reward_alignment(short, long, "abs", "both").tolist() == [0.5, 0.0, 3.0]
    assert reward_alignment(short, long, "squared", "both").tolist() == [0.25, 0.0, 9.0]
    # Huber with delta 1: x^2 / 2 inside, |x| - 1/2 outside
    assert reward_alignment(short, long, "huber", "both").tolist() == [0.125, 0.0, 2.5]


def test_one_sided_by_hand():
    """The chosen answer hurts where its long reward is lower, the rejected one where it is higher."""
    short, long = tensor([-1.0, 0.5, 2.0]), tensor([-1.5, 0.5, 5.0])
    assert reward_alignment(short, long, "abs", "one_sided").tolist() == [0.5, 0.0, 0.0]
    assert reward_alignment(short, long, "abs", "one_sided", of_chosen=False).tolist() == [0.0, 0.0, 3.0]
    assert reward_alignment(short, long, "squared", "one_sided").tolist() == [0.25, 0.0, 0.0]
    assert reward_alignment(short, long, "huber", "one_sided", of_chosen=False).tolist() == [0.0, 0.0, 2.5]


@pytest.mark.parametrize("gradient, of_short, of_long", [("both", -1, 1), ("long", 0, 1), ("one_sided", 0, 0)])
def test_where_the_gradient_goes(gradient, of_short, of_long):
    """d |1 - 3| is -1 and 1; a long reward that leads is not pulled back by `one_sided`."""
    short, long = tensor([1.0], requires_grad=True), tensor([3.0], requires_grad=True)
    reward_alignment(short * 1, long * 1, "abs", gradient).sum().backward()
    assert (0 if short.grad is None else short.grad.item()) == of_short
    assert long.grad.item() == of_long


def test_a_share_scales_the_short_gradient_and_not_the_value():
    short, long = tensor([3.0, 3.0], requires_grad=True), tensor([1.0, 1.0])
    aligned = reward_alignment(short * 1, long, "abs", "capped", share=tensor([0.25, 1.0]))
    assert aligned.tolist() == [2.0, 2.0]
    aligned.sum().backward()
    assert short.grad.tolist() == [0.25, 1.0]


def test_shares_by_hand():
    """Opposed and stronger: 0.5 / 2. Opposed and weaker, or of one direction: all of it."""
    assert capped_share(tensor([-0.5, -3.0, 0.5]), tensor([2.0, 2.0, 2.0])).tolist() == [0.25, 1.0, 1.0]
    assert capped_share(tensor([0.0]), tensor([0.0])).tolist() == [1.0]


def test_slopes_by_hand():
    short, long = tensor([2.0, 0.0]), tensor([0.5, 3.0])
    assert alignment_slope(short, long, "abs").tolist() == [1.0, -1.0]
    assert alignment_slope(short, long, "squared").tolist() == [3.0, -6.0]
    assert alignment_slope(short, long, "huber").tolist() == [1.0, -1.0]

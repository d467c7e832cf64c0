"""Log-probs of answers against torch's own log_softmax and by hand."""

import pytest
import torch
from torch import nn

from solopo_llamafactory.model import logprobs
from solopo_llamafactory.model.logprobs import answer_logps, answering_with_logps, token_logps


def test_token_logps_equal_log_softmax():
    torch.manual_seed(0)
    logits, targets = torch.randn(7, 11) * 10, torch.randint(11, (7,))
    expected = logits.log_softmax(-1)[torch.arange(7), targets]
    torch.testing.assert_close(token_logps(logits, targets), expected)


def test_token_logps_are_float32_for_bfloat16_logits():
    logits = torch.randn(3, 5).bfloat16()
    logps = token_logps(logits, torch.tensor([0, 1, 2]))
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps, logits.float().log_softmax(-1).diagonal())


def test_answer_logps_sum_each_answer():
    lengths = torch.tensor([[1, 2], [3, 1]])
    logps = torch.tensor([1.0, 2, 3, 4, 5, 6, 7], requires_grad=True)
    sums = answer_logps(logps, lengths)
    assert sums.tolist() == [[1, 5], [15, 7]]
    (sums * torch.tensor([[1.0, 10], [100, 1000]])).sum().backward()
    assert logps.grad.tolist() == [1, 10, 10, 100, 100, 100, 1000]


class Model(nn.Module):
    """Hidden states -> logits through an output layer."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 11, bias=False)

    def forward(self, hidden_1AH):
        return self.head(hidden_1AH)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunked_logps_and_gradients_equal_whole_ones(chunk, monkeypatch):
    monkeypatch.setattr(logprobs, "CHUNK", chunk)
    torch.manual_seed(0)
    model, hidden = Model(), torch.randn(1, 7, 6, requires_grad=True)
    targets, weights = torch.randint(11, (7,)), torch.randn(7)

    expected = token_logps(model(hidden)[0], targets)
    expected_gradients = torch.autograd.grad(expected @ weights, [hidden, model.head.weight])
    with answering_with_logps(model.head, targets):
        logps = model(hidden)[0]
    gradients = torch.autograd.grad(logps @ weights, [hidden, model.head.weight])
    torch.testing.assert_close(logps, expected)
    torch.testing.assert_close(gradients, expected_gradients)
    torch.testing.assert_close(token_logps(model(hidden)[0], targets), expected)  # logits again afterwards


def test_no_more_than_a_chunk_of_logits_exists_at_one_time(monkeypatch):
    monkeypatch.setattr(logprobs, "CHUNK", 3)
    model, hidden = Model(), torch.randn(1, 7, 6, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        with answering_with_logps(model.head, torch.zeros(7, dtype=torch.long)):
            model(hidden)
    assert not any(size >= 3 * 11 and size != model.head.weight.numel() for size in sizes)  # no logits are kept


def test_a_forward_that_a_library_had_set_is_set_again():
    model = Model()
    own = model.head.forward
    model.head.forward = wrapped = lambda hidden: own(hidden)
    with answering_with_logps(model.head, torch.tensor([0])):
        assert model(torch.randn(1, 1, 6)).shape == (1, 1)
    assert model.head.forward is wrapped

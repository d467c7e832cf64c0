"""Log-probs of answers against torch's own log_softmax and by hand."""

import torch

from solopo_llamafactory.logprobs import answer_logps, token_logps


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

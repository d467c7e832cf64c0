"""Log-probabilities of answers from logits at the positions that predict them.

Shape suffixes: A answer tokens of the whole batch, V vocabulary, N examples, S sequences (prompt and answer) of an
example.
"""

import torch
from torch import Tensor


def token_logps(logits_AV: Tensor, targets_A: Tensor) -> Tensor:
    """log p(target) at each position, (A,) float32."""
    logits_AV = logits_AV.float()
    target_logits_A = logits_AV.gather(-1, targets_A[:, None]).squeeze(-1)
    return target_logits_A - logits_AV.logsumexp(-1)


def answer_logps(token_logps_A: Tensor, lengths_NS: Tensor) -> Tensor:
    """Sum of each answer's token log-probs, (N, S) float32.

    Args:
        token_logps_A: the answers' log-probs one after another, in the order of `lengths_NS` read row by row.
        lengths_NS: tokens of each answer, int64.
    """
    lengths = lengths_NS.flatten()
    answer_A = torch.repeat_interleave(
        torch.arange(lengths.numel(), device=lengths.device), lengths, output_size=token_logps_A.numel()
    )
    sums = torch.zeros(lengths.numel(), dtype=token_logps_A.dtype, device=token_logps_A.device)
    return sums.index_add(0, answer_A, token_logps_A).view(lengths_NS.shape)

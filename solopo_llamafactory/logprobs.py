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
    # One sum an answer, not index_add: equal tokens give equal sums on a GPU too, where atomics come in any order.
    answers = token_logps_A.split(lengths_NS.flatten().tolist())
    return torch.stack([answer.sum() for answer in answers]).view(lengths_NS.shape)

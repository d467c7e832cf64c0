"""Log-probabilities of answers from logits at the positions that predict them.

Shape suffixes: A answer tokens of the whole batch, H hidden size, V vocabulary, N examples, S sequences (prompt and
answer) of an example.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


CHUNK = 1024  # positions whose logits exist at one time: 0.6 GB in float32 at a vocabulary of 152K


def token_logps(logits_AV: Tensor, targets_A: Tensor) -> Tensor:
    """log p(target) at each position, (A,) float32."""
    logits_AV = logits_AV.float()
    target_logits_A = logits_AV.gather(-1, targets_A[:, None]).squeeze(-1)
    return target_logits_A - logits_AV.logsumexp(-1)


def chunked_token_logps(project: Callable[[Tensor], Tensor], hidden_AH: Tensor, targets_A: Tensor) -> Tensor:
    """`token_logps` of `project(hidden_AH)`, `CHUNK` positions at a time; the backward pass computes logits again."""

    def logps(hidden: Tensor, targets: Tensor) -> Tensor:
        return token_logps(project(hidden), targets)

    chunks = zip(hidden_AH.split(CHUNK), targets_A.split(CHUNK))
    # Nothing here is random.
    return torch.cat(
        [
            checkpoint(logps, hidden, targets, use_reentrant=False, preserve_rng_state=False)
            for hidden, targets in chunks
        ]
    )


@contextmanager
def answering_with_logps(output_layer: nn.Module, targets_A: Tensor) -> Iterator[None]:
    """While open, `output_layer` maps (1, A, H) to log p(target), (1, A) float32, instead of to logits.

    The layer's own forward is swapped, not the layer: hooks on it, such as DeepSpeed's that gather its weights, run
    once around all chunks.
    """
    own = output_layer.__dict__.get("forward")  # set by a library that wrapped it
    project = output_layer.forward
    output_layer.forward = lambda hidden_1AH: chunked_token_logps(project, hidden_1AH[0], targets_A)[None]
    try:
        yield
    finally:
        if own is None:
            del output_layer.forward
        else:
            output_layer.forward = own


@contextmanager
def answering_at(output_layer: nn.Module | None, positions_A: Tensor) -> Iterator[None]:
    """While open, `output_layer` is given (1, A, H) of its input (B, W, H): what stands at flat positions of (B * W)."""
    if output_layer is None:
        yield
        return
    handle = output_layer.register_forward_pre_hook(
        lambda module, args: (args[0].flatten(0, 1)[positions_A][None], *args[1:])
    )
    try:
        yield
    finally:
        handle.remove()


def answer_logps(token_logps_A: Tensor, lengths_NS: Tensor) -> Tensor:
    """Sum of each answer's token log-probs, (N, S) float32.

    Args:
        token_logps_A: the answers' log-probs one after another, in the order of `lengths_NS` read row by row.
        lengths_NS: tokens of each answer, int64.
    """
    # One sum an answer, not index_add: equal tokens give equal sums on a GPU too, where atomics come in any order.
    answers = token_logps_A.split(lengths_NS.flatten().tolist())
    return torch.stack([answer.sum() for answer in answers]).view(lengths_NS.shape)

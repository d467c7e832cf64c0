"""NEFTune (arXiv 2310.05914) on a packed row: each context gets the noise that it would get alone.

NEFTune adds uniform noise of at most alpha / sqrt(L * H) to the embeddings of a sequence of L tokens with H channels.
transformers takes the whole row's length for L, so that a packed row would mean less noise the more it holds.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..data.packing import RowLayout
from ..host.log import logger


class EmbeddingNoise:
    """Adds the noise in training mode to the batch that `expect` was called with before, and to no other.

    Args:
        embeddings: the model's input embeddings, (1, T) or (B, W) token ids -> (..., H).
        alpha: `neftune_noise_alpha`.
    """

    def __init__(self, embeddings: nn.Module, alpha: float) -> None:
        self.alpha = alpha
        self.lengths: Tensor | None = None
        embeddings.register_forward_hook(self._add)
        logger.info_rank0(
            f"`neftune_noise_alpha: {alpha}`: noise is scaled by the length of each prompt with its first answer, not by "
            "the row's."
        )

    def expect(self, batch: dict[str, Any]) -> None:
        """Look at the lengths of a batch of `SolopoCollator` before it goes through the model."""
        if "packed_row" in batch:
            self.lengths = sequence_lengths(batch["packed_row"], batch["position_ids"][0])
        else:
            self.lengths = batch["attention_mask"].sum(1, keepdim=True)

    def _add(self, module: nn.Module, args: tuple, embedded: Tensor) -> Tensor:
        lengths, self.lengths = self.lengths, None
        if lengths is None or not module.training:  # not a batch of ours, or no training step
            return embedded
        largest = self.alpha / (lengths * embedded.shape[-1]).sqrt()
        return embedded + torch.empty_like(embedded).uniform_(-1, 1) * largest.unsqueeze(-1).to(embedded.dtype)


def sequence_lengths(layout: RowLayout, position_ids_T: Tensor) -> Tensor:
    """For each token of a packed row, the length of its prompt with the first answer, (1, T) int64, without filling."""
    prompts = {span.start: span for span in layout.spans if span.prefix_start == span.prefix_end}
    own_prompts = [prompts.get(span.start) or prompts[span.prefix_start] for span in layout.spans]
    last_positions = position_ids_T[[span.end - 1 for span in own_prompts]]  # filling repeats the last position
    sizes = torch.tensor([span.end - span.start for span in layout.spans], device=position_ids_T.device)
    return (last_positions + 1).repeat_interleave(sizes, output_size=len(position_ids_T))[None]

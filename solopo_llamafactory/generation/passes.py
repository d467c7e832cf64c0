"""Forward passes over `Slots`: prompts are filled in, answers grow by a token."""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from .attention import attention_over_slots
from .slots import Slots


def fill(model: PreTrainedModel, slots: Slots, targets: Tensor, prompt_ids: Tensor) -> None:
    """Compute the keys and values of prompts (C, up to `slots.prompt_tokens`), padded on the right, into slots (C,)."""
    padding = slots.prompt_tokens - prompt_ids.shape[1]
    tokens = F.pad(prompt_ids, (0, padding))
    positions = torch.arange(slots.prompt_tokens, device=tokens.device).expand_as(tokens)
    slots.filling = targets
    try:
        _call(model, slots, tokens, positions)
    finally:
        slots.filling = None


def grow(model: PreTrainedModel, slots: Slots, token_R: Tensor) -> Tensor:
    """Give each answer its next token and return the logits of the one that follows, (R, vocabulary)."""
    slots.new_step()
    return _call(model, slots, token_R[:, None], (slots.start_R + slots.step_R)[:, None])[:, -1]


def _call(model: PreTrainedModel, slots: Slots, tokens: Tensor, positions: Tensor) -> Tensor:
    # Without a mask of ones transformers would look at the positions' values for packing.
    ones = torch.ones_like(tokens)
    arguments = {"input_ids": tokens, "position_ids": positions, "attention_mask": ones, "logits_to_keep": 1}
    with attention_over_slots(model):
        return model(**arguments, use_cache=False, slots=slots).logits

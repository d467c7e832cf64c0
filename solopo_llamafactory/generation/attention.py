"""Attention over `Slots`, registered with transformers under `NAME`.

The slots reach it as the keyword argument `slots` of the model's forward, which is called without a cache. No mask over
pairs of a prompt's tokens is ever made.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from .slots import Slots


NAME = "slots"
TILE = 256  # queries at a time where a window or a soft cap keeps a prompt from torch's plain causal attention


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float | None) -> Tensor:
    """Attention with an additive mask and, where the model has one, a soft cap on the scores (as in Gemma 2)."""
    if softcap is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    scores = softcap * torch.tanh((query @ key.transpose(2, 3)).float() * (scaling / softcap))
    return (scores + mask).softmax(-1).to(value.dtype) @ value


def attend_causally(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None, softcap: float | None
) -> Tensor:
    """Causal attention of whole prompts, (C, heads, tokens, head size); a token sees `window` ones, itself included."""
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    if groups > 1:  # not every kernel of torch shares key heads by itself, and one without writes all pairs down
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    if softcap is None and (window is None or window >= length):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    positions = torch.arange(length, device=query.device)
    tiles = []
    for start in range(0, length, TILE):
        end = min(start + TILE, length)
        first = 0 if window is None else max(0, start - window + 1)
        distance = positions[start:end, None] - positions[first:end]
        hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
        mask = torch.zeros(distance.shape, dtype=query.dtype, device=query.device).masked_fill_(hidden, -torch.inf)
        seen = (states[:, :, first:end] for states in (key, value))
        tiles.append(attend(query[:, :, start:end], *seen, mask, scaling, softcap))
    return torch.cat(tiles, dim=2)


def attend_by_slots(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    """Attention of each answer's newest token, (R, heads, 1, head size), to keys (P, key heads, L, head size).

    All queries that share keys, those of a slot's answers and of a key head's query heads, are one product with them.
    """
    prompts, key_heads = key.shape[:2]
    rows, heads, _, size = query.shape
    width, groups = rows // prompts, heads // key_heads
    together = query.reshape(prompts, width, key_heads, groups, size).transpose(1, 2).flatten(2, 3)
    output = attend(together, key, value, mask, scaling, softcap)  # (P, key heads, W * G, head size)
    return output.unflatten(2, (width, groups)).transpose(1, 2).reshape(rows, heads, 1, -1)


def _forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    slots: Slots | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    query, key = query.to(value.dtype), key.to(value.dtype)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if slots.filling is not None:
        slots.fill(module, key, value)
        output = attend_causally(query, key, value, scaling, sliding_window, softcap)
    else:
        keys, values = slots.grow(module, key, value)
        mask = slots.mask(sliding_window, query.shape[1] // key.shape[1], query)
        output = attend_by_slots(query, keys, values, mask, scaling, softcap)
    return output.transpose(1, 2), None


@contextmanager
def attention_over_slots(model: PreTrainedModel) -> Iterator[None]:
    """Let the model's layers call this attention; afterwards it is as it was."""
    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
    config = model.config.get_text_config()
    ordinary = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = ordinary

"""Attention over a packed row, registered with transformers under the names of `BACKENDS`.

The row's layout reaches these functions as the keyword argument `packed_row` of the model's forward. Tensors are
(1, heads, T, head size), as transformers hands them over; without a layout the call goes to transformers' own SDPA.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..data.packing import RowLayout, Span


PREFIX = "packed_"
# On Hopper torch picks cuDNN's attention, which takes about 70 ms to plan each new length of a plain causal sequence, in
# every process. Few different lengths need few plans. (Measured by benchmarks/attention.py.)
GPU_LENGTH_MULTIPLE = 128


def span_keys(states: Tensor, layout: RowLayout) -> list[Tensor]:
    """The keys (or values) that each span sees, prefix first: a list of (1, heads, keys, head size).

    The row is cut once, so that the backward pass is one concatenation and not a full-size tensor for each slice.
    """
    cuts = sorted({0, states.shape[2], *(edge for span in layout.spans for edge in span)})
    pieces = dict(zip(cuts, states.split([b - a for a, b in zip(cuts, cuts[1:])], dim=2)))

    def between(start: int, end: int) -> list[Tensor]:
        return [pieces[cut] for cut in cuts if start <= cut < end]

    return [
        torch.cat(between(span.prefix_start, span.prefix_end) + between(span.start, span.end), dim=2)
        for span in layout.spans
    ]


def span_queries(query: Tensor, layout: RowLayout) -> tuple[Tensor, ...]:
    """The row cut into its spans."""
    return query.split([span.end - span.start for span in layout.spans], dim=2)


def sdpa_spans(query: Tensor, key: Tensor, value: Tensor, layout: RowLayout, scaling: float, dropout: float) -> Tensor:
    """One SDPA call a span: flash or cuDNN kernels on a GPU, and no package beyond torch. Returns (1, T, heads, D)."""
    outputs = []
    for q, k, v in zip(span_queries(query, layout), span_keys(key, layout), span_keys(value, layout)):
        whole = q.shape[2] == k.shape[2]
        output = F.scaled_dot_product_attention(
            *map(without_row, (q, k, v)),
            attn_mask=None if whole else causal_lower_right(q.shape[2], k.shape[2]),
            dropout_p=dropout,
            is_causal=whole,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        outputs.append(without_row(output))
    return torch.cat(outputs, dim=2).transpose(1, 2)


def without_row(states: Tensor) -> Tensor:
    """The same (1, heads, tokens, D), its strides and its gradient's free of the length of the row it was cut from."""
    return states.squeeze(0).unsqueeze(0)  # cuDNN plans anew for other strides, also for the batch's one element


def eager_spans(
    query: Tensor, key: Tensor, value: Tensor, layout: RowLayout, scaling: float, dropout: float
) -> Tensor:
    """Attention written out, a span at a time, softmax in float32. Returns (1, T, heads, D)."""
    outputs = []
    groups = query.shape[1] // key.shape[1]
    for q, k, v in zip(span_queries(query, layout), span_keys(key, layout), span_keys(value, layout)):
        k, v = (states.repeat_interleave(groups, dim=1) for states in (k, v))
        scores = q @ k.transpose(2, 3) * scaling
        q_len, k_len = scores.shape[-2:]
        hidden = torch.ones(q_len, k_len, dtype=torch.bool, device=q.device).triu(k_len - q_len + 1)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1, dtype=torch.float32).to(q.dtype)
        outputs.append(F.dropout(weights, dropout) @ v)
    return torch.cat(outputs, dim=2).transpose(1, 2)


class VarlenInputs(NamedTuple):
    """A row as varlen kernels take it: states of (tokens, heads, head size) and where each span's begin and end."""

    query: Tensor
    key: Tensor
    value: Tensor
    query_boundaries: Tensor  # (spans + 1,) int32
    key_boundaries: Tensor
    longest_query: int
    longest_key: int


def varlen_inputs(query: Tensor, key: Tensor, value: Tensor, layout: RowLayout) -> VarlenInputs:
    """Keys and values are repeated for each span that sees them."""
    keys, values = span_keys(key, layout), span_keys(value, layout)
    query_sizes, key_sizes = [span.end - span.start for span in layout.spans], [k.shape[2] for k in keys]
    states = (query, torch.cat(keys, dim=2), torch.cat(values, dim=2))
    boundaries = (
        F.pad(torch.tensor(sizes, device=query.device).cumsum(0), (1, 0)).int() for sizes in (query_sizes, key_sizes)
    )
    return VarlenInputs(*(each[0].transpose(0, 1) for each in states), *boundaries, max(query_sizes), max(key_sizes))


def flash_spans(
    query: Tensor, key: Tensor, value: Tensor, layout: RowLayout, scaling: float, dropout: float
) -> Tensor:
    """One varlen call of flash-attn for the row; its causal mask is aligned at the end. Returns (1, T, heads, D)."""
    from flash_attn import flash_attn_varlen_func

    inputs = varlen_inputs(query, key, value, layout)
    return flash_attn_varlen_func(*inputs, dropout_p=dropout, softmax_scale=scaling, causal=True)[None]


# The attention that the host configured (`flash_attn` auto or sdpa, disabled, fa2) -> the same over a packed row.
BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, RowLayout, float, float], Tensor]] = {
    "sdpa": sdpa_spans,
    "eager": eager_spans,
    "flash_attention_2": flash_spans,
}


def _attention_forward(attend: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, None]]:
    def forward(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        packed_row: RowLayout | None = None,
        **kwargs,
    ) -> tuple[Tensor, None]:
        if packed_row is None:
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
            )
        if scaling is None:
            scaling = query.shape[-1] ** -0.5
        # Under autocast with float32 weights, rotary embeddings leave query and key in float32 beside a half value.
        query, key = query.to(value.dtype), key.to(value.dtype)
        return attend(query, key, value, packed_row, scaling, dropout), None

    return forward


def _mask(*args, attention_mask: Tensor | None = None, **kwargs) -> Tensor | None:
    # A packed row needs no mask, and one from its restarting positions would take T x T bytes.
    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


def register() -> None:
    """Make the back ends known to transformers as `packed_sdpa` and so on. Calling it again changes nothing."""
    for name, attend in BACKENDS.items():
        AttentionInterface.register(PREFIX + name, _attention_forward(attend))
        AttentionMaskInterface.register(PREFIX + name, _mask)


def whole_row(length: int) -> RowLayout:
    """The layout of one plain causal sequence."""
    return RowLayout((Span(0, length),))

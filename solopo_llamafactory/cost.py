"""What a training step costs, predicted from tokens and squared tokens with the model's shape.

Multiply-adds of one forward pass; backward and recomputation multiply every method's by the same factor, so ratios
stand for whole steps. Which pairs attention computes is exact for the packed row.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ModelShape:
    """Multiply-adds by kind.

    Args:
        per_token: of all layers' linear maps, for one token.
        per_pair: of all layers' attention, for one query and one key.
        per_logit_token: of the output layer, for one position.
    """

    per_token: float
    per_pair: float
    per_logit_token: float

    @classmethod
    def of(cls, config) -> "ModelShape | None":
        """The shape of a dense decoder from its transformers config, or None when it is not one of that kind."""
        if any(hasattr(config, name) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
            return None
        try:
            head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            attention = config.hidden_size * head_dim * 2 * (config.num_attention_heads + config.num_key_value_heads)
            mlp = 3 * config.hidden_size * config.intermediate_size
            return cls(
                per_token=config.num_hidden_layers * (attention + mlp),
                per_pair=config.num_hidden_layers * 2 * config.num_attention_heads * head_dim,
                per_logit_token=config.hidden_size * config.vocab_size,
            )
        except (AttributeError, TypeError):
            return None

    def cost(self, tokens, pairs, logit_tokens):
        """Multiply-adds of a forward pass over so many tokens, attention pairs and positions with logits."""
        return self.per_token * tokens + self.per_pair * pairs + self.per_logit_token * logit_tokens


@dataclass(frozen=True)
class Lengths:
    """Token counts of E examples, each of shape (E,)."""

    short_prompt: np.ndarray
    long_prompt: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray


def causal(length):
    """Pairs that causal attention computes over so many tokens."""
    return length * (length + 1) / 2


def shared_prompt(prompt, answers):
    """(tokens, pairs, logit tokens) of a prompt that is followed by several answers and computed once."""
    tokens = prompt + sum(answers)
    pairs = causal(prompt) + sum(prompt * answer + causal(answer) for answer in answers)
    return np.array([tokens, pairs, sum(answers)], dtype=float)


def packed_row_load(lengths: Lengths, view: str, align: str):
    """(tokens, pairs, logit tokens) of each example in the packed row, shape (3, E)."""
    pair = [lengths.chosen, lengths.rejected]
    if view == "short":
        return shared_prompt(lengths.short_prompt, pair)
    if view == "long":
        return shared_prompt(lengths.long_prompt, pair)
    aligned = pair if align == "both" else [lengths.chosen]
    return shared_prompt(lengths.short_prompt, pair) + shared_prompt(lengths.long_prompt, aligned)


def shared_long_load(lengths: Lengths):
    """The same for plain long PO with the long prompt computed once for both answers."""
    return shared_prompt(lengths.long_prompt, [lengths.chosen, lengths.rejected])


def padded_long_load(lengths: Lengths):
    """The same for the host's dpo stage on the long pair: two rows padded to the longer one, logits everywhere."""
    row = lengths.long_prompt + np.maximum(lengths.chosen, lengths.rejected)
    row = np.ceil(row / 8) * 8  # its collator pads to a multiple of 8
    return np.array([2 * row, 2 * causal(row), 2 * row], dtype=float)

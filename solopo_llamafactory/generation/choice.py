"""Choosing the next token: the likeliest one, or one drawn by a random number that belongs to the answer alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from .errors import UnfitError


# Of a generation config: what is followed here, and what changes no token.
FOLLOWED = {"do_sample", "temperature", "top_k", "top_p", "max_new_tokens", "max_length", "eos_token_id"}
HARMLESS = {"bos_token_id", "pad_token_id", "num_return_sequences", "transformers_version", "skip_special_tokens"}
HARMLESS |= {"length_penalty", "use_cache", "cache_implementation", "cache_config", "return_legacy_cache"}
HARMLESS |= {"prefill_chunk_size", "compile_config", "disable_compile", "_from_model_config"}


@dataclass(frozen=True)
class Decoding:
    """How answers are made.

    Args:
        max_new_tokens: an answer's most tokens, its end token included.
        ends: tokens that end an answer.
        warpers: what shapes the distribution that is drawn from, in order; None for the likeliest token.
    """

    max_new_tokens: int
    ends: frozenset[int]
    warpers: tuple | None = None

    def __call__(self, logits_RV: Tensor, uniform_R: Tensor) -> Tensor:
        """The next tokens (R,), by one number in [0, 1) a row where they are drawn."""
        if self.warpers is None:
            return logits_RV.argmax(-1)
        scores = logits_RV.float()
        for warper in self.warpers:
            scores = warper(None, scores)
        sums = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
        total = sums[:, -1:]
        # Below the total, so that no token is drawn that a warper has taken out.
        drawn = torch.minimum(uniform_R[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
        return torch.searchsorted(sums, drawn, right=True)[:, 0]


def decoding_of(model: PreTrainedModel, generation_config: GenerationConfig) -> Decoding:
    """What `model.generate` would do with this configuration.

    Raises:
        UnfitError: where the configuration, or the model's own, asks for more than is done here.
    """
    config, _ = model._prepare_generation_config(generation_config)
    neutral = GenerationConfig()
    neutral.update(**model.generation_config._get_default_generation_params(), defaults_only=True)
    plain = neutral.to_dict()
    for name, value in config.to_dict().items():
        if name not in FOLLOWED | HARMLESS and (value or None) != (plain.get(name) or None):  # False and None are one
            raise UnfitError(f"`{name}: {value}` of the generation config is left to transformers")
    if config.max_new_tokens is None:
        raise UnfitError("`max_length` without `max_new_tokens` is left to transformers")
    ends = config.eos_token_id
    ends = frozenset([] if ends is None else [ends] if isinstance(ends, int) else ends)
    if not config.do_sample:
        return Decoding(config.max_new_tokens, ends)
    warpers = []
    if config.temperature != 1:
        warpers.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        warpers.append(TopKLogitsWarper(config.top_k))
    if config.top_p < 1:
        warpers.append(TopPLogitsWarper(config.top_p))
    return Decoding(config.max_new_tokens, ends, tuple(warpers))


def uniform_numbers(seeds: Sequence[int], count: int) -> Tensor:
    """`count` numbers in [0, 1) for each seed, the same on every machine: (seeds, count) in float64."""
    generator = torch.Generator()
    return torch.stack([torch.rand(count, generator=generator.manual_seed(s), dtype=torch.float64) for s in seeds])

"""Tiny models of several families in float32, with weights large enough that every token depends on what came before."""

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
)


VOCABULARY = 300
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.25,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WINDOW = 24
CONFIGS = {
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen2 with windows": lambda: Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2
    ),
    "llama": lambda: LlamaConfig(**SIZES),
    "llama without shared heads": lambda: LlamaConfig(**{**SIZES, "num_key_value_heads": 4}),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=WINDOW),
    "gemma2": lambda: Gemma2Config(
        **SIZES, head_dim=16, sliding_window=WINDOW, attn_logit_softcapping=2.0, query_pre_attn_scalar=16
    ),
    "gemma3": lambda: Gemma3TextConfig(**SIZES, head_dim=16, sliding_window=WINDOW),
}
ENDS = list(range(2, VOCABULARY, 11))


def make(family: str, seed: int = 0, **changes) -> PreTrainedModel:
    """A model of the family; `eager` attention, which knows soft caps, is what it is compared with."""
    torch.manual_seed(seed)
    config = CONFIGS[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()


def prompts_of(*lengths: int) -> list[list[int]]:
    """Random prompts of these lengths."""
    generator = torch.Generator().manual_seed(len(lengths))
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def greedy(max_new_tokens: int = 40, ends: list[int] = ENDS) -> GenerationConfig:
    return GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=0)


def drawn(max_new_tokens: int = 24, temperature: float = 1.5, top_k: int = 0, **settings) -> GenerationConfig:
    settings |= {"do_sample": True, "temperature": temperature, "top_k": top_k, "pad_token_id": 0}
    return GenerationConfig(max_new_tokens=max_new_tokens, eos_token_id=ENDS, **settings)

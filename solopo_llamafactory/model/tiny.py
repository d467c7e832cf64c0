"""Tiny random models with a real tokenizer and chat template, for the demo, the tests and benchmarks on a CPU."""

from collections.abc import Iterable
from pathlib import Path


# Chat tokens of the two families whose recipes we ship: (special tokens, bos, eos, pad).
SPECIAL_TOKENS = {
    "qwen2": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None, "<|im_end|>", "<|endoftext|>"),
    "llama": (
        ["<|begin_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|pad|>"],
        "<|begin_of_text|>",
        "<|eot_id|>",
        "<|pad|>",
    ),
}


def make_tiny_model(
    output_dir: str,
    family: str = "qwen2",
    texts: Iterable[str] = (),
    vocab_size: int = 1024,
    hidden_size: int = 64,
    num_layers: int = 2,
    max_position_embeddings: int = 8192,
    seed: int = 0,
) -> str:
    """Write a random model and a byte-level BPE tokenizer trained on `texts` to `output_dir`, and return it.

    Args:
        family: `qwen2` or `llama`, the architectures of Qwen2.5 and Llama 3.1.
        texts: what the tokenizer learns its merges from; without texts it knows bytes only.

    Raises:
        ValueError: for another family.
    """
    if family not in SPECIAL_TOKENS:
        raise ValueError(f"There is no tiny model of family `{family}`: write family=qwen2 or family=llama.")

    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

    special_tokens, bos, eos, pad = SPECIAL_TOKENS[family]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special_tokens,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=bos, eos_token=eos, pad_token=pad, model_max_length=max_position_embeddings
    )

    config_class = {"qwen2": Qwen2Config, "llama": LlamaConfig}[family]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,  # large enough that attention and rewards differ visibly between contexts
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    return output_dir

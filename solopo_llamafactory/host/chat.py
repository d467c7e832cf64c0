"""LLaMA-Factory's chat engines, which only sampling needs (so not in imports.py, which training loads)."""

import gc
import os
from collections.abc import Sequence
from typing import Any


VERBOSITY = "LLAMAFACTORY_VERBOSITY"


def load_chat_model(arguments: dict):
    """The host's chat model from its own inference arguments. Loading it takes a while."""
    from llamafactory.chat import ChatModel

    from .model_loading import working_infer_dtype, working_rope_scaling

    asked_for = os.environ.get(VERBOSITY)
    os.environ[VERBOSITY] = asked_for or "WARN"  # or transformers prints every file that it reads
    try:
        with working_rope_scaling(), working_infer_dtype():
            return ChatModel(arguments)
    finally:
        if asked_for is None:
            del os.environ[VERBOSITY]


def drop_generation_defaults(chat_model: Any) -> None:
    """Takes sampling defaults of the model's generation_config.json out of the huggingface engine.

    transformers fills what a call leaves out from there (no_repeat_ngram_size, min_p ...). The vllm engine is given all of its
    parameters by the host, and sglang's `generate` reads no such file.
    """
    from transformers import GenerationConfig

    engine = chat_model.engine
    if engine.name == "huggingface":
        known = engine.model.generation_config.to_dict()
        kept = {key: value for key, value in known.items() if key.endswith("_token_id") or "cache" in key}
        engine.model.generation_config = GenerationConfig(**kept)


def window_of(chat_model: Any) -> int | None:
    """Tokens that a loaded model takes, prompt and answer together, rope scaling included."""
    engine = chat_model.engine
    if engine.name == "huggingface":
        config = engine.model.config.get_text_config()
        window = getattr(config, "max_position_embeddings", None)
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") == "yarn" and window and rope.get("original_max_position_embeddings"):
            # Qwen's way to switch it on leaves max_position_embeddings as it was.
            window = max(window, int(rope["factor"] * rope["original_max_position_embeddings"]))
        elif rope.get("rope_type") == "dynamic" and window:
            window = int(rope["factor"] * window)
        return window
    return getattr(engine.model_args, f"{engine.name}_maxlen")  # vllm, sglang


def batch_inputs(engine: Any, prompts: Sequence[str], count: int) -> dict[str, Any]:
    """What the huggingface engine would give to `generate` for each prompt, padded on the left to one batch.

    Args:
        count: answers to each prompt.

    Returns:
        `inputs` and `attention_mask` (prompts, longest prompt), `generation_config`, and what else the template adds.
    """
    import torch

    each = [prompt_inputs(engine, prompt, count) for prompt in prompts]
    longest = max(one["inputs"].shape[1] for one in each)
    batch = dict(each[0])
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):  # (1, prompt)
            filling = engine.tokenizer.pad_token_id if name == "inputs" else 0
            pads = [longest - one[name].shape[1] for one in each]
            padded = [torch.nn.functional.pad(one[name], (pad, 0), value=filling) for one, pad in zip(each, pads)]
            batch[name] = torch.cat(padded)
    return batch


def prompt_inputs(engine: Any, prompt: str, count: int) -> dict[str, Any]:
    """What the huggingface engine would give to `generate` for `count` answers to one prompt."""
    messages = [{"role": "user", "content": prompt}]
    arguments = (engine.model, engine.tokenizer, engine.processor, engine.template, engine.generating_args, messages)
    return engine._process_args(*arguments, input_kwargs={"num_return_sequences": count})[0]


def unload(chat_model: Any) -> None:
    """Ends a chat model and gives its memory back."""
    from llamafactory.extras.misc import torch_gc

    chat_model._loop.call_soon_threadsafe(chat_model._loop.stop)
    chat_model._thread.join()
    del chat_model.engine
    gc.collect()
    torch_gc()


def marks_of_template(name: str) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...], tuple[str, ...]]:
    """Opening and closing marks of thoughts in any template, and of the named one: its end marks, its marks of tool calls."""
    from llamafactory.data.template import TEMPLATES

    thoughts = {tuple(word.strip() for word in template.thought_words) for template in TEMPLATES.values()}
    own = TEMPLATES.get(name)
    if own is None:
        return tuple(sorted(thoughts)), (), ()
    written = [slot.partition("{{content}}")[2] for slot in own.format_assistant.slots if isinstance(slot, str)]
    ends = {word.strip() for word in (*own.stop_words, *written)}
    return tuple(sorted(thoughts)), tuple(sorted(filter(None, ends))), tuple(own.tool_call_words)
